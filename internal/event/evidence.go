package event

import "time"

// EvidenceKind says what a piece of evidence states.
type EvidenceKind string

// Kinds of evidence. Each names the field of Evidence that is filled in.
const (
	EvidenceClient    EvidenceKind = "client"    // what the client said of itself
	EvidenceLogin     EvidenceKind = "login"     // one guess
	EvidenceKey       EvidenceKind = "key"       // a public key was offered
	EvidenceStart     EvidenceKind = "start"     // a shell, a command or a subsystem was started
	EvidenceSize      EvidenceKind = "size"      // the client's window changed
	EvidenceVariable  EvidenceKind = "variable"  // of the environment
	EvidenceSignal    EvidenceKind = "signal"    // sent to what runs
	EvidenceInput     EvidenceKind = "input"     // a line that was typed
	EvidenceExit      EvidenceKind = "exit"      // what was started has ended
	EvidenceFile      EvidenceKind = "file"      // a file came
	EvidenceForward   EvidenceKind = "forward"   // a connection, or a port to listen on, was asked for
	EvidenceEgress    EvidenceKind = "egress"    // the pot called out
	EvidenceMalformed EvidenceKind = "malformed" // bytes that are no protocol
	EvidenceOverflow  EvidenceKind = "overflow"  // the node had no pot left
	EvidenceAsked     EvidenceKind = "request"   // a service was asked for something

	// What the node sees of a pot (potevidence.go).
	EvidenceExecution  EvidenceKind = "execution"  // a program was started
	EvidenceEnding     EvidenceKind = "ending"     // it ended
	EvidenceConnection EvidenceKind = "connection" // it connected, or listens
	EvidenceWrite      EvidenceKind = "write"      // a file was written to
	EvidenceMissed     EvidenceKind = "missed"     // how much of these is not told
	EvidenceChange     EvidenceKind = "change"     // a file differed from the image when the pot's time was over
	EvidenceArchive    EvidenceKind = "archive"    // all that differed

	EvidenceTruncated EvidenceKind = "truncated" // from here on evidence is missing
	EvidenceClosed    EvidenceKind = "closed"    // the session's end
)

// EvidenceKinds are all of them.
func EvidenceKinds() []EvidenceKind {
	return []EvidenceKind{
		EvidenceClient, EvidenceLogin, EvidenceKey, EvidenceStart, EvidenceSize, EvidenceVariable, EvidenceSignal, EvidenceInput,
		EvidenceExit, EvidenceFile, EvidenceForward, EvidenceEgress, EvidenceMalformed, EvidenceOverflow, EvidenceAsked,
		EvidenceExecution, EvidenceEnding, EvidenceConnection, EvidenceWrite, EvidenceMissed, EvidenceChange, EvidenceArchive,
		EvidenceTruncated, EvidenceClosed,
	}
}

// Evidence is one fact that a session left. Exactly the field that its kind names is filled in.
type Evidence struct {
	Session string       `json:"session"`
	Number  int          `json:"number"` // 1, 2, … within the session
	At      time.Time    `json:"at"`
	Kind    EvidenceKind `json:"kind"`
	// Channel numbers what was started or forwarded within the session, from 1; 0 is the connection itself.
	Channel uint32 `json:"channel,omitempty"`

	Client   *Client   `json:"client,omitempty"`
	Login    *Login    `json:"login,omitempty"`
	Key      *Key      `json:"key,omitempty"`
	Start    *Start    `json:"start,omitempty"`
	Size     *Size     `json:"size,omitempty"`
	Variable *Variable `json:"variable,omitempty"`
	Signal   string    `json:"signal,omitempty"`
	Input    Bytes     `json:"input,omitempty"`
	Exit     *Exit     `json:"exit,omitempty"`
	File     *File     `json:"file,omitempty"`
	Forward  *Forward  `json:"forward,omitempty"`
	Egress   *Egress   `json:"egress,omitempty"`

	Execution  *Execution  `json:"execution,omitempty"`
	Request    *Request    `json:"request,omitempty"`
	Ending     *Ending     `json:"ending,omitempty"`
	Connection *Connection `json:"connection,omitempty"`
	Write      *Write      `json:"write,omitempty"`
	Missed     *Missed     `json:"missed,omitempty"`
	Change     *Difference `json:"change,omitempty"`
	Archive    *Archive    `json:"archive,omitempty"`

	Data Bytes `json:"data,omitempty"` // of malformed: its start
	// Of truncated and closed; of overflow what the attacker met instead; of a login that nothing could come of.
	Reason string `json:"reason,omitempty"`
}

// Client is what a client says of itself before it logs in: one of SSH with its version and lists, one of TLS by JA4. HASSH is the
// MD5 of key-exchange, encryption, MAC and compression lists (github.com/salesforce/hassh); JA4 is described at
// github.com/FoxIO-LLC/ja4.
type Client struct {
	Version  Bytes   `json:"version,omitempty"`
	HASSH    string  `json:"hassh,omitempty"`
	KEX      []Bytes `json:"kex,omitempty"`
	HostKeys []Bytes `json:"host_keys,omitempty"`
	Ciphers  []Bytes `json:"ciphers,omitempty"` // client to server, as the next two
	MACs     []Bytes `json:"macs,omitempty"`
	Compress []Bytes `json:"compress,omitempty"`
	Language []Bytes `json:"language,omitempty"`

	JA4        string `json:"ja4,omitempty"`
	ServerName Bytes  `json:"server_name,omitempty"` // that the client asked for by TLS
}

// Login is one guess. Of a source that has logged in with success on a protected host, the password
// is kept as a salted hash only (decision 11).
type Login struct {
	Account  Bytes  `json:"account"`
	Method   string `json:"method"` // as the service calls it: password, keyboard-interactive, AUTH, mysql_native_password
	Password Bytes  `json:"password,omitempty"`
	Hash     string `json:"hash,omitempty"` // $argon2id$… of a password that is not kept
	// Response is what came in place of a password, with the challenge that it answers, in the form that password crackers read.
	Response Bytes `json:"response,omitempty"`
	Success  bool  `json:"success"`
}

// Secret is what is known of the password: itself, or what is kept or came in its place.
func (l Login) Secret() Bytes {
	switch {
	case l.Hash != "":
		return Bytes(l.Hash)
	case l.Password == "":
		return l.Response
	}
	return l.Password
}

// Request is what a service was asked for, and what it answered. Of what is long the start is kept.
type Request struct {
	Args      []Bytes `json:"args"`                // the command first
	Size      int64   `json:"size"`                // of all of them, in bytes
	Truncated bool    `json:"truncated,omitempty"` // not all is kept
	Failed    bool    `json:"failed,omitempty"`    // the answer is an error
	Answer    Bytes   `json:"answer,omitempty"`    // empty where it can't be told from what else the service sends
	Answered  int64   `json:"answered,omitempty"`  // bytes
}

// Key is a public key that a client offered; it never opens anything.
type Key struct {
	Account     Bytes  `json:"account"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"` // SHA256:…, as OpenSSH prints it
	MD5         string `json:"md5"`         // hex digits in pairs, with colons
	Key         string `json:"key"`         // as in authorized_keys
}

// Start is what a session was asked to run.
type Start struct {
	What    string `json:"what"` // shell, exec, subsystem
	Command Bytes  `json:"command,omitempty"`
	Term    Bytes  `json:"term,omitempty"` // of its terminal, if it has one
	Width   uint32 `json:"width,omitempty"`
	Height  uint32 `json:"height,omitempty"`
	Refused bool   `json:"refused,omitempty"` // the pot did not start it
}

// Terminal reports whether it has a terminal.
func (s Start) Terminal() bool { return s.Term != "" }

// Size is the size of a window in characters.
type Size struct {
	Width  uint32 `json:"width"`
	Height uint32 `json:"height"`
}

// Variable is one of the environment that a client asked for.
type Variable struct {
	Name  Bytes `json:"name"`
	Value Bytes `json:"value"`
}

// Exit is how what ran ended.
type Exit struct {
	Status int    `json:"status"`
	Signal string `json:"signal,omitempty"` // its name without SIG where a signal ended it
	Core   bool   `json:"core,omitempty"`
}

// File is a file that came with a session; its content is in the node's evidence under its SHA-256.
type File struct {
	How       string `json:"how"`            // sftp, scp, rsync, stdin; form, body: of HTTP; fetched: by the recording proxy
	Path      Bytes  `json:"path,omitempty"` // in the pot
	URL       Bytes  `json:"url,omitempty"`  // that it was fetched from
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	Truncated bool   `json:"truncated,omitempty"` // it was larger; SHA256 is of what is kept
	Partial   bool   `json:"partial,omitempty"`   // the transfer did not finish
}

// Forward is a request to connect or to listen from inside the pot.
type Forward struct {
	What        string `json:"what"` // direct-tcpip, direct-streamlocal, tcpip-forward, streamlocal-forward, forwarded-tcpip, …
	Destination Bytes  `json:"destination"`
	Port        uint32 `json:"port,omitempty"`
	Origin      Bytes  `json:"origin,omitempty"`
	OriginPort  uint32 `json:"origin_port,omitempty"`
	Refused     bool   `json:"refused,omitempty"`
}

// Content is the file that the evidence brings; nil where it brings none that is kept.
func (e Evidence) Content() *Content {
	var c *Content
	switch {
	case e.File != nil:
		c = &Content{SHA256: e.File.SHA256, Size: e.File.Size, Truncated: e.File.Truncated}
	case e.Execution != nil:
		c = e.Execution.File
	case e.Write != nil:
		c = e.Write.File
	case e.Change != nil:
		c = e.Change.File
	case e.Archive != nil:
		c = &Content{SHA256: e.Archive.SHA256, Size: e.Archive.Size, Truncated: e.Archive.Truncated != ""}
	}
	if c == nil || c.SHA256 == "" {
		return nil
	}
	return c
}

// SessionReport is what a node publishes on sessions.<node>: a session as it is now, with evidence
// that it has not published before. A report may come twice; Number tells.
type SessionReport struct {
	Session  Session    `json:"session"`
	Evidence []Evidence `json:"evidence,omitempty"`
}

// EvidenceRequest asks a node for a piece of a recording or a file (request on evidence.<node>).
type EvidenceRequest struct {
	SHA256 string `json:"sha256"`
	Offset int64  `json:"offset"`
}

// EvidenceReply is the answer: bytes from Offset on, and the whole's size.
type EvidenceReply struct {
	Data  []byte `json:"data,omitempty"`
	Size  int64  `json:"size"`
	Error string `json:"error,omitempty"`
}
