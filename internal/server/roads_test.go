package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestFixedRoadHoldsAtOnce(t *testing.T) {
	t.Parallel()
	fixed := ""
	r := &roads{current: map[roadKey]road{}, fixed: func(string) string { return fixed }}
	k, now := roadKey{"web", event.SSH}, time.Now()
	assert.True(t, r.admit(k, event.RoadAgent, now), "the first that brings something")
	assert.False(t, r.admit(k, event.RoadSyslogTCP, now.Add(time.Second)))
	assert.True(t, r.admit(k, event.RoadSyslogTCP, now.Add(time.Second+roadSilence)), "the first went silent")
	assert.False(t, r.admit(k, event.RoadAgent, now.Add(2*time.Second+roadSilence)))

	fixed = "agent"
	now = now.Add(3*time.Second + roadSilence)
	assert.True(t, r.admit(k, event.RoadAgent, now), "an operator's choice holds at once")
	assert.False(t, r.admit(k, event.RoadSyslogTCP, now.Add(2*roadSilence)), "and for good")
	fixed = "syslog"
	assert.True(t, r.admit(k, event.RoadSyslogTCP, now.Add(time.Second)))
	assert.False(t, r.admit(k, event.RoadSyslogUDP, now.Add(2*time.Second)), "also of two roads of one kind")
}
