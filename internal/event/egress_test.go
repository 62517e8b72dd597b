package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestStricter(t *testing.T) {
	all := event.EgressPolicies()
	for i, a := range all {
		for j, b := range all {
			assert.Equal(t, all[min(i, j)], a.Stricter(b))
		}
		assert.Equal(t, event.EgressNone, a.Stricter("everything"), "what is not known permits nothing")
		assert.Equal(t, event.EgressNone, event.EgressPolicy("").Stricter(a))
	}
}
