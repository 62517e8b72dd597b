package tail

import "sync/atomic"

// Stats counts what was read and what was left out.
type Stats struct {
	Lines       int64 `json:"lines"`
	Bytes       int64 `json:"bytes"`
	Batches     int64 `json:"batches"`
	Resent      int64 `json:"resent"`       // batches handed on again after a restart
	Retries     int64 `json:"retries"`      // failed tries to hand a batch on
	Skipped     int64 `json:"skipped"`      // bytes that were there before the following began
	CutLines    int64 `json:"cut_lines"`    // overlong
	CutBytes    int64 `json:"cut_bytes"`    // left out of them
	Partials    int64 `json:"partials"`     // lines without an end that a truncation cut off, left out
	Unended     int64 `json:"unended"`      // last lines without an end of files that got no more, handed on
	Rotations   int64 `json:"rotations"`    // files that followed another
	Truncations int64 `json:"truncations"`  // files cut under our eyes
	LostFiles   int64 `json:"lost_files"`   // gone before they were known to be read to their end
	DroppedHost int64 `json:"dropped_host"` // hosts beyond the limit of a Set, now
}

type counts struct {
	lines, bytes, batches, resent, retries, skipped, cutLines, cutBytes, partials, rotations, truncations, lostFiles, unended atomic.Int64
}

func (c *counts) snapshot() Stats {
	return Stats{
		Lines: c.lines.Load(), Bytes: c.bytes.Load(), Batches: c.batches.Load(), Resent: c.resent.Load(), Retries: c.retries.Load(),
		Skipped: c.skipped.Load(), CutLines: c.cutLines.Load(), CutBytes: c.cutBytes.Load(), Partials: c.partials.Load(),
		Rotations: c.rotations.Load(), Truncations: c.truncations.Load(), LostFiles: c.lostFiles.Load(), Unended: c.unended.Load(),
	}
}

// Add adds what another counted.
func (s *Stats) Add(o Stats) {
	s.Lines += o.Lines
	s.Bytes += o.Bytes
	s.Batches += o.Batches
	s.Resent += o.Resent
	s.Retries += o.Retries
	s.Skipped += o.Skipped
	s.CutLines += o.CutLines
	s.CutBytes += o.CutBytes
	s.Partials += o.Partials
	s.Rotations += o.Rotations
	s.Truncations += o.Truncations
	s.LostFiles += o.LostFiles
	s.Unended += o.Unended
	s.DroppedHost += o.DroppedHost
}
