package engine

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// Change is one thing that happened to the engine or to a pot.
type Change struct {
	Kind ChangeKind
	ID   string // of the container, for the last three kinds
	Err  error  // for Lost
}

// ChangeKind says what happened.
type ChangeKind int

// Kinds of changes.
const (
	Connected ChangeKind = iota // the engine answers: look at all pots, changes before this were missed
	Lost                        // the engine does not answer
	Started
	Died
	Removed
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Watch reports the engine's changes until ctx is done; it connects again by itself.
func (d *Docker) Watch(ctx context.Context, fn func(Change)) {
	retry := firstRetry
	for ctx.Err() == nil {
		connected, err := d.watchOnce(ctx, fn)
		if ctx.Err() != nil {
			return
		}
		if connected { // the stream ended; whether the engine did, the next try shows
			retry = firstRetry
		} else {
			fn(Change{Kind: Lost, Err: d.wrap(err, "watch pots")})
		}
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		retry = min(2*retry, lastRetry)
	}
}

func (d *Docker) watchOnce(ctx context.Context, fn func(Change)) (connected bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filters := d.mine().Add("type", string(events.ContainerEventType)).
		Add("event", string(events.ActionStart), string(events.ActionDie), string(events.ActionDestroy))
	// A new stream does not fail before it is read; a call that needs an answer does.
	if _, err := d.cli.Ping(ctx, client.PingOptions{}); err != nil {
		return false, err //nolint:wrapcheck // the caller says what was done
	}
	stream := d.cli.Events(ctx, client.EventsListOptions{Filters: filters})
	select {
	case err := <-stream.Err:
		return false, err
	default:
	}
	fn(Change{Kind: Connected})
	for {
		select {
		case err := <-stream.Err:
			return true, err
		case m := <-stream.Messages:
			switch m.Action { //nolint:exhaustive // the filter lets nothing else through
			case events.ActionStart:
				fn(Change{Kind: Started, ID: m.Actor.ID})
			case events.ActionDie:
				fn(Change{Kind: Died, ID: m.Actor.ID})
			case events.ActionDestroy:
				fn(Change{Kind: Removed, ID: m.Actor.ID})
			}
		}
	}
}
