package cowrie

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Event is one event of the schema. As JSON it is an object in one line that shows nothing that could
// harm a terminal: what does not print is written as \uXXXX.
type Event struct {
	ID   string // such as cowrie.login.failed
	body any    // one of the types below
}

// Write writes events, one object a line.
func Write(w io.Writer, events iter.Seq[Event]) error {
	for e := range events {
		line, err := e.MarshalJSON()
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write %s: %w", e.ID, err)
		}
	}
	return nil
}

// MarshalJSON returns the event without a line's end.
func (e Event) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e.body); err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.ID, err)
	}
	return visible(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// visible escapes what does not print. In JSON that stands in strings only.
func visible(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for rest := line; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case unicode.IsPrint(r):
			out = append(out, rest[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[n:]
	}
	return out
}

// head is what every event has.
type head struct {
	ID        string `json:"eventid"`
	Message   string `json:"message"`
	Sensor    string `json:"sensor"`
	UUID      string `json:"uuid"`
	Timestamp string `json:"timestamp"`
	Session   string `json:"session"`
	SrcIP     string `json:"src_ip"`
	SrcPort   uint16 `json:"src_port"`
	DstIP     string `json:"dst_ip"`
	DstPort   uint16 `json:"dst_port"`
	Protocol  string `json:"protocol"`
}

type (
	sessionConnect struct{ head }

	sessionClosed struct {
		head

		Milliseconds int64  `json:"duration_ms"`
		Duration     string `json:"duration"` // seconds, for readers of the form before July 2026
	}

	clientVersion struct {
		head

		Version event.Bytes `json:"version"`
	}

	clientKex struct {
		head

		HASSH      string        `json:"hassh"`
		Algorithms string        `json:"hasshAlgorithms"`
		KEX        []event.Bytes `json:"kexAlgs"`
		HostKeys   []event.Bytes `json:"keyAlgs"`
		Ciphers    []event.Bytes `json:"encCS"`
		MACs       []event.Bytes `json:"macCS"`
		Compress   []event.Bytes `json:"compCS"`
		Language   []event.Bytes `json:"langCS"`
	}

	clientFingerprint struct {
		head

		Username    event.Bytes `json:"username"`
		Fingerprint string      `json:"fingerprint"`
		Key         string      `json:"key"`
		Type        string      `json:"type"`
	}

	clientSize struct {
		head

		Width  uint32 `json:"width"`
		Height uint32 `json:"height"`
	}

	clientVar struct {
		head

		Name  string `json:"name"`
		Value string `json:"value"`
	}

	malformedPacket struct {
		head

		Number int    `json:"messagenum"`
		Length int    `json:"datalen"`
		Data   string `json:"data"`
	}

	login struct {
		head

		Username event.Bytes `json:"username"`
		Password event.Bytes `json:"password"`
	}

	keyLogin struct {
		head

		Username    event.Bytes `json:"username"`
		Password    string      `json:"password"` // empty; there are readers that want it in every login
		Fingerprint string      `json:"fingerprint"`
		Key         string      `json:"key"`
		Type        string      `json:"type"`
	}

	commandInput struct {
		head

		Input string `json:"input"`
		Realm string `json:"realm,omitempty"`
	}

	logOpen struct {
		head

		TTYLog string `json:"ttylog"`
	}

	logClosed struct {
		head

		TTYLog       string `json:"ttylog"`
		Size         *int64 `json:"size,omitempty"`
		SHA256       string `json:"shasum,omitempty"`
		Duplicate    bool   `json:"duplicate"`
		Milliseconds int64  `json:"duration_ms"`
	}

	fileUpload struct {
		head

		Filename string `json:"filename"`
		OutFile  string `json:"outfile"`
		SHA256   string `json:"shasum"`
	}

	scpUpload struct {
		fileUpload

		URL       string `json:"url"`
		DestFile  string `json:"destfile"`
		Duplicate bool   `json:"duplicate"`
	}

	fileDownload struct {
		head

		OutFile   string `json:"outfile"`
		SHA256    string `json:"shasum"`
		DestFile  string `json:"destfile"`
		Duplicate bool   `json:"duplicate"`
	}

	// In a request to connect elsewhere dst_ip and dst_port are where to.
	directTCPIP struct {
		head

		DstIP    string `json:"dst_ip"`
		DstPort  uint32 `json:"dst_port"`
		OrigIP   string `json:"orig_ip"`
		OrigPort uint32 `json:"orig_port"`
	}
)
