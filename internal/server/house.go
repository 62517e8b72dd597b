package server

import (
	"context"
	"time"
)

const (
	saveCountersEvery = 30 * time.Second
	pruneEvery        = time.Hour
)

// keepHouse looks at the machine's addresses, saves the counters and forgets what is older than it is to be kept.
func (s *Server) keepHouse(ctx context.Context) error {
	look, save, prune := time.NewTicker(ownEvery), time.NewTicker(saveCountersEvery), time.NewTicker(pruneEvery)
	defer look.Stop()
	defer save.Stop()
	defer prune.Stop()
	s.own.look()
	s.prune(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.saveCounters(last)
			return nil
		case <-look.C:
			s.own.look()
		case <-save.C:
			s.saveCounters(ctx)
		case <-prune.C:
			s.prune(ctx)
		}
	}
}

func (s *Server) saveCounters(ctx context.Context) {
	if err := s.store.SaveCounters(ctx, s.counters.snapshot()); err != nil {
		s.log.ErrorContext(ctx, "counters not kept", "error", err)
	}
}

func (s *Server) prune(ctx context.Context) {
	n, err := s.store.Prune(ctx, time.Now().AddDate(0, 0, -s.opts.Config.KeepDays))
	switch {
	case err != nil:
		s.log.ErrorContext(ctx, "old records not removed", "error", err)
	case n > 0:
		s.log.InfoContext(ctx, "removed old records", "records", n, "older_than_days", s.opts.Config.KeepDays)
	}
}
