package event

import (
	"net/netip"
	"time"
)

// Execution is a program that was started in a pot, also by a script or by another program, as the node's kernel
// tells it. What a session was asked to run is a Start.
type Execution struct {
	PID    uint32  `json:"pid"` // as the pot counts
	Parent uint32  `json:"parent,omitempty"`
	UID    uint32  `json:"uid"`
	Path   Bytes   `json:"path"`             // of the program
	Script Bytes   `json:"script,omitempty"` // that the program was started to interpret
	Args   []Bytes `json:"args"`
	Dir    Bytes   `json:"dir,omitempty"` // in which it was started
	// Unnamed says that no name led to the program when it started: it was deleted before, or only ever in memory.
	Unnamed bool `json:"unnamed,omitempty"`
	// Truncated says that there were more arguments than are kept.
	Truncated bool `json:"truncated,omitempty"`
	// File is the program, or the script, where it is not of the pot's image.
	File *Content `json:"file,omitempty"`
	// Exit and Lasted are of a program that ended soon; of others an Ending tells them.
	Exit   *Exit         `json:"exit,omitempty"`
	Lasted time.Duration `json:"lasted,omitempty"` // nanoseconds
}

// Content is what a file held; it is in the node's evidence under its SHA-256.
type Content struct {
	SHA256    string `json:"sha256,omitempty"` // empty where it could not be kept
	Size      int64  `json:"size"`
	Truncated bool   `json:"truncated,omitempty"` // it was larger, or could not be kept; SHA256 is of what is
}

// Ending is the end of a program of which an Execution told the start.
type Ending struct {
	PID    uint32        `json:"pid"`
	Path   Bytes         `json:"path"`
	Exit   *Exit         `json:"exit,omitempty"` // nil where it is not known
	Lasted time.Duration `json:"lasted"`         // nanoseconds
}

// Connection is a TCP connection that a program in a pot began, or a port that it listens on.
type Connection struct {
	What    string         `json:"what"` // connect, listen
	PID     uint32         `json:"pid,omitempty"`
	UID     uint32         `json:"uid,omitempty"`
	Address netip.AddrPort `json:"address"` // of listen: only the port is known
}

// Write is a file that a program in a pot has written to.
type Write struct {
	PID   uint32   `json:"pid,omitempty"`
	Path  Bytes    `json:"path"`
	Times int      `json:"times,omitempty"` // within a moment, where more than once
	Gone  bool     `json:"gone,omitempty"`  // it was deleted when it was looked at
	File  *Content `json:"file,omitempty"`
}

// Missed counts what happened in a pot and is not told one by one: it was too much at once, or for the session.
type Missed struct {
	Executions  uint64 `json:"executions,omitempty"`
	Connections uint64 `json:"connections,omitempty"`
	Writes      uint64 `json:"writes,omitempty"`
	Calls       uint64 `json:"calls,omitempty"` // that the pot sent out
}

// Sum is how many there are.
func (m Missed) Sum() uint64 { return m.Executions + m.Connections + m.Writes + m.Calls }

// Add counts a piece of evidence.
func (m *Missed) Add(e Evidence) {
	switch {
	case e.Execution != nil:
		m.Executions++
	case e.Connection != nil:
		m.Connections++
	case e.Write != nil:
		m.Writes++
	case e.Egress != nil:
		m.Calls += max(1, e.Egress.Count) // of dropped: what was counted before
	case e.Missed != nil:
		m.Calls += e.Missed.Calls
		m.Executions += e.Missed.Executions
		m.Connections += e.Missed.Connections
		m.Writes += e.Missed.Writes
	}
}

// Difference is one difference between a pot's files and its image.
type Difference struct {
	Path     Bytes     `json:"path"`
	What     string    `json:"what"` // added, changed, deleted
	Type     string    `json:"type,omitempty"`
	Mode     uint32    `json:"mode,omitempty"` // permissions, with set-user-ID and the like: 07777 at most
	UID      uint32    `json:"uid,omitempty"`
	GID      uint32    `json:"gid,omitempty"`
	Size     int64     `json:"size,omitempty"`
	Modified time.Time `json:"modified_at,omitzero"`
	Target   Bytes     `json:"target,omitempty"` // of a symbolic link
	File     *Content  `json:"file,omitempty"`
}

// Archive sums up what a pot's attacker had changed when the pot's time was over. The list of changes, in JSON,
// a Difference a line, is in the node's evidence under its SHA-256; the first of them are evidence of their own as well.
type Archive struct {
	Pot       string `json:"pot"`
	SHA256    string `json:"sha256,omitempty"`
	Size      int64  `json:"size"`
	Changes   int    `json:"changes"`
	Files     int    `json:"files"` // whose content is kept
	Bytes     int64  `json:"bytes"` // of these
	Truncated string `json:"truncated,omitempty"`
}
