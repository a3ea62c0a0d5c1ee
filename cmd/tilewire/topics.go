package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

// topicPlan is a topic as it is to be made.
type topicPlan struct {
	name           string
	ringMiB, depth uint64
	history        uint32
	message        uint64 // KiB
}

// plan is the topics that the flags describe: those of --topic, or one called default. It says what is wrong with them.
func (s *shape) plan() ([]topicPlan, error) {
	specs := s.topics
	if len(specs) == 0 {
		specs = []string{instance.DefaultTopic}
	}
	if len(specs) > instance.MaxTopics {
		return nil, usageError{fmt.Errorf("--topic: %d topics; %d at most", len(specs), instance.MaxTopics)}
	}
	var plan []topicPlan
	seen := map[string]bool{}
	for _, spec := range specs {
		t, err := s.parseTopic(spec)
		if err != nil {
			return nil, err
		}
		if seen[t.name] {
			return nil, usageError{fmt.Errorf("--topic %s: named twice", t.name)}
		}
		seen[t.name] = true
		plan = append(plan, t)
	}
	return plan, nil
}

// parseTopic takes NAME,key=N,... apart.
func (s *shape) parseTopic(spec string) (topicPlan, error) {
	where := func(flag string, v uint64) string { // as it was given
		if strings.Contains(spec, ","+flag+"=") {
			return fmt.Sprintf("--topic %s: %s=%d", spec, flag, v)
		}
		return fmt.Sprintf("--%s %d", flag, v)
	}
	name, rest, more := strings.Cut(spec, ",")
	t := topicPlan{name: name, ringMiB: s.ringMiB, depth: s.depth, history: s.history, message: s.message}
	if !instance.TopicName(name) {
		return t, usageError{fmt.Errorf("--topic %q: a name is %s", name, instance.TopicNames)}
	}
	for more {
		var field string
		field, rest, more = strings.Cut(rest, ",")
		key, text, _ := strings.Cut(field, "=")
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case err != nil:
			return t, usageError{fmt.Errorf("--topic %s: %q is not KEY=NUMBER", spec, field)}
		case key == "ring-size-mib":
			t.ringMiB = n
		case key == "ring-depth":
			t.depth = n
		case key == "history":
			t.history = uint32(min(n, 1<<32-1))
		case key == "max-message-kib":
			t.message = n
		default:
			return t, usageError{fmt.Errorf("--topic %s: no key %q; these are: ring-size-mib, ring-depth, history, max-message-kib", spec, key)}
		}
	}
	if t.ringMiB < 1 || t.ringMiB > 1<<19 || t.ringMiB&(t.ringMiB-1) != 0 {
		return t, usageError{fmt.Errorf("%s: a power of two from 1 to %d", where("ring-size-mib", t.ringMiB), 1<<19)}
	}
	if t.depth < 1024 || t.depth > 1<<32 || t.depth&(t.depth-1) != 0 {
		return t, usageError{fmt.Errorf("%s: a power of two from 1024 to %d", where("ring-depth", t.depth), uint64(1)<<32)}
	}
	if t.message < 1 || t.message > 1<<29 {
		return t, usageError{fmt.Errorf("%s: from 1 to %d", where("max-message-kib", t.message), 1<<29)}
	}
	return t, checkHistory(where("history", uint64(t.history)), t)
}

// checkHistory refuses a history that the ring does not hold: its producer reclaims a 64th of the descriptors ahead.
func checkHistory(given string, t topicPlan) error {
	if most := t.depth - t.depth/64; uint64(t.history) > most {
		return usageError{fmt.Errorf("%s: the ring keeps the last %d messages at most (fewer if they are more than its %d MiB)", given, most, t.ringMiB)}
	}
	return nil
}

func topicsOf(plan []topicPlan) (ts []instance.Topic) {
	for _, t := range plan {
		ts = append(ts, instance.Topic{Name: t.name, History: t.history, MaxMessage: t.message << 10})
	}
	return ts
}

// adoptTopics takes over the topics that memory was made for where the flags say nothing, and refuses flags that contradict
// them: but for the history, which is the tile's.
func (s *shape) adoptTopics(in *instance.Instance) error {
	p := in.Server.Params()
	if !s.changed("topic") {
		for i, t := range in.Info.Topics {
			r := p.Rings[i]
			spec := fmt.Sprintf("%s,ring-size-mib=%d,ring-depth=%d", t.Name, r.OutgoingBufferSz>>20, r.RingDepth)
			if !s.changed("history") {
				spec += fmt.Sprintf(",history=%d", t.History)
			}
			if t.MaxMessage >= 1<<10 && !s.changed("max-message-kib") {
				spec += fmt.Sprintf(",max-message-kib=%d", t.MaxMessage>>10)
			}
			s.topics = append(s.topics, spec)
		}
		if r := p.Rings[0]; s.changed("ring-size-mib") && s.ringMiB != r.OutgoingBufferSz>>20 {
			return s.contradicts("--ring-size-mib %d: the memory of %q was made for %d", s.ringMiB, s.name, r.OutgoingBufferSz>>20)
		} else if s.changed("ring-depth") && s.depth != r.RingDepth {
			return s.contradicts("--ring-depth %d: the memory of %q was made for %d", s.depth, s.name, r.RingDepth)
		}
	}
	plan, err := s.plan()
	if err != nil {
		return err
	}
	if len(plan) != len(in.Info.Topics) {
		return s.contradicts("--topic: %d topics; the memory of %q was made for %d", len(plan), s.name, len(in.Info.Topics))
	}
	for i, t := range plan {
		if r := p.Rings[i]; t.name != in.Info.Topics[i].Name || t.ringMiB != r.OutgoingBufferSz>>20 || t.depth != r.RingDepth {
			return s.contradicts("--topic %s,ring-size-mib=%d,ring-depth=%d: the memory of %q was made for %s, %d and %d there",
				t.name, t.ringMiB, t.depth, s.name, in.Info.Topics[i].Name, r.OutgoingBufferSz>>20, r.RingDepth)
		}
	}
	in.Info.Topics = topicsOf(plan)
	return nil
}
