package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// published is what `publish --json` prints.
type published struct {
	Topic    string `json:"topic"`
	Epoch    string `json:"epoch"` // hex, of the ring: a seq means nothing without
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
	Messages uint64 `json:"messages"`
}

func publishCmd() *cobra.Command {
	var name, topic, framing string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "publish [MESSAGE...]",
		Short: "Publish messages into a running instance: the arguments, or what standard input holds",
		Example: `  tilewire publish hello
  tilewire publish --topic news --frame nul < messages`,
		RunE: func(_ *cobra.Command, args []string) error {
			fr, err := feed.ParseFraming(framing)
			if err != nil {
				return err
			}
			in, ring, err := joinTopic(name, topic, shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer in.Leave()
			servedTeller(in)()
			p, err := publish(in, ring, fr, args)
			if p.Messages > 0 {
				p.print(asJSON)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "instance; the only one that runs if left out")
	f.StringVar(&topic, "topic", "", "topic; the instance's first if left out")
	f.StringVar(&framing, "frame", "line", "where a message of standard input ends: line, nul, len32")
	f.BoolVar(&asJSON, "json", false, "print what was published as JSON")
	return cmd
}

func (p published) print(asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(p)
		return
	}
	fmt.Printf("%s: %d messages, seq %d to %d, epoch %s\n", p.Topic, p.Messages, p.First, p.Last, p.Epoch)
}

// publish has the producer's role for as long as it takes.
func publish(in *instance.Instance, ring int, fr feed.Framing, messages []string) (p published, err error) {
	st, err := produce(in, ring)
	if err != nil {
		return p, err
	}
	defer st.Close()
	p = published{Topic: in.Info.TopicOf(ring), Epoch: fmt.Sprintf("%016x", in.Server.Ring(ring).Epoch), First: uint64(st.Seq()) + 1}
	defer func() { p.Last = uint64(st.Seq()); p.Messages = p.Last + 1 - p.First }()
	for _, m := range messages {
		op := byte(httpsrv.OpText)
		if !utf8.ValidString(m) {
			op = httpsrv.OpBinary
		}
		_, _ = st.WriteString(m) // the send reports what went wrong
		if _, err := st.WsBroadcast(op); err != nil {
			return p, fmt.Errorf("message of %d bytes: %w", len(m), err)
		}
	}
	if len(messages) > 0 {
		return p, nil
	}
	ctx, cancel := stopOnSignal()
	defer cancel()
	w, err := newWake(ctx)
	if err != nil {
		return p, err
	}
	defer w.close()
	f := feed.New(st, fr)
	for b := make([]byte, 256<<10); ; {
		n, err := w.read(0, b)
		_, _ = f.Write(b[:n])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			err = errors.Join(err, f.Close())
			if s := f.Stats; err == nil && s.TooLarge+s.Lost > 0 {
				err = fmt.Errorf("%d messages were too large for the ring, the largest of %d bytes, and %d not taken by a ring that was busy", s.TooLarge, s.Largest, s.Lost)
			}
			return p, err
		}
	}
}
