package entry

import (
	"sync"

	"golang.org/x/crypto/ssh"
)

// FromPot serves the channels that the pot opens, until the guest's login has ended and all are closed. take returns what
// serves a channel, nil where none of its type is wanted; open bounds, by its capacity, how many there are at once.
func (g *Guest) FromPot(open chan struct{}, take func(ssh.NewChannel) func()) {
	var all sync.WaitGroup
	defer all.Wait()
	for nc := range g.Pot.Channels() {
		serve := take(nc)
		if serve == nil {
			_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type")
			continue
		}
		select {
		case open <- struct{}{}:
		default:
			_ = nc.Reject(ssh.ResourceShortage, "open failed")
			continue
		}
		all.Go(func() {
			defer func() { <-open }()
			serve()
		})
	}
}
