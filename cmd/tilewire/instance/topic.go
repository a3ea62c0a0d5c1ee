package instance

import (
	"regexp"
	"slices"
	"time"

	"github.com/tilewire/tilewire/httpsrv"
)

// Topic is a producers' ring by name. Its index among Info.Topics is the ring's.
type Topic struct {
	Name    string `json:"name"`
	History uint32 `json:"history"` // late joiners get the last so many messages

	MaxMessage uint64 `json:"max_message,omitempty"` // bytes; 0: as many as the ring takes
}

const (
	// MaxTopics is how many topics an instance has at most.
	MaxTopics = 32
	// TopicNames says what a topic's name must be, for messages to people.
	TopicNames = "1 to 64 of a-z, 0-9, '.', '_' and '-', the first of them no '.'"
	// DefaultTopic is the topic of an instance that was told of none.
	DefaultTopic = "default"
)

var topicName = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,63}$`)

// TopicName reports whether name may be a topic's.
func TopicName(name string) bool { return topicName.MatchString(name) }

// Ring returns the ring of a topic; the first one's if name is empty.
func (i Info) Ring(name string) (ring int, ok bool) {
	if name == "" {
		return 0, true
	}
	ring = slices.IndexFunc(i.Topics, func(t Topic) bool { return t.Name == name })
	return ring, ring >= 0
}

// Produce is the server's Produce, with the topic's limit.
func (in *Instance) Produce(ring int, bound time.Duration) (*httpsrv.Stage, error) {
	st, err := in.Server.Produce(ring, bound)
	if err == nil && ring < len(in.Info.Topics) {
		st.Limit(int(in.Info.Topics[ring].MaxMessage))
	}
	return st, err
}

// TopicOf names the topic of a ring, "" if there is none.
func (i Info) TopicOf(ring int) string {
	if ring < 0 || ring >= len(i.Topics) {
		return ""
	}
	return i.Topics[ring].Name
}
