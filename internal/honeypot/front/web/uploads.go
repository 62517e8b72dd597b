package web

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

const (
	maxName = 1 << 10 // bytes of a file's name that are kept
	maxPart = 64      // files of one request that are kept
)

// uploads are the files that a request brings: those of a form (multipart/form-data), or its whole body where that is no form. Its
// methods may be called on nil.
type uploads struct {
	pipe *io.PipeWriter
	done chan struct{}
	whole
}

// whole is a body that is one file.
type whole struct {
	rec  *record.Recorder
	path event.Bytes
	file *record.File
	size int64
	head []byte // that is not yet in a file: what is short is in the request's own evidence
}

// uploadsOf returns what keeps a request's files.
func (c *conversation) uploadsOf(h head) *uploads {
	value, _ := h.field("Content-Type")
	kind, params, err := mime.ParseMediaType(value)
	if err == nil && kind == "multipart/form-data" && params["boundary"] != "" {
		r, w := io.Pipe()
		u := &uploads{pipe: w, done: make(chan struct{})}
		go func() {
			defer close(u.done)
			keepParts(c.v, multipart.NewReader(r, params["boundary"]))
			_, _ = io.Copy(io.Discard, r) // whatever else comes
		}()
		return u
	}
	_, target, _ := strings.Cut(string(h.lines[0]), " ")
	target, _, _ = strings.Cut(target, " ")
	return &uploads{whole: whole{rec: c.v.Rec, path: front.Clip(target, maxName)}}
}

// keepParts keeps the files of a form.
func keepParts(v *front.Visit, r *multipart.Reader) {
	for range maxPart {
		p, err := r.NextRawPart()
		if err != nil {
			return
		}
		_, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition")) // FileName would leave folders out
		if err != nil || params["filename"] == "" {
			continue
		}
		f := v.Rec.Create(0, "form", front.Clip(params["filename"], maxName))
		var at int64
		buf := make([]byte, 32<<10)
		for {
			n, err := p.Read(buf)
			_, _ = f.WriteAt(buf[:n], at)
			at += int64(n)
			if err != nil {
				f.Close(!errors.Is(err, io.EOF))
				break
			}
		}
	}
}

// write takes bytes of the body.
func (u *uploads) write(p []byte) {
	switch {
	case u == nil:
	case u.pipe != nil:
		_, _ = u.pipe.Write(p)
	default:
		u.whole.write(p)
	}
}

func (w *whole) write(p []byte) {
	if w.file == nil {
		w.head = append(w.head, p...)
		if len(w.head) <= keptBody {
			return
		}
		w.file = w.rec.Create(0, "body", w.path)
		p, w.head = w.head, nil
	}
	_, _ = w.file.WriteAt(p, w.size)
	w.size += int64(len(p))
}

// close ends what comes; partial says that it did not come whole.
func (u *uploads) close(partial bool) {
	switch {
	case u == nil:
	case u.pipe != nil:
		_ = u.pipe.CloseWithError(map[bool]error{false: io.EOF, true: io.ErrUnexpectedEOF}[partial])
		<-u.done
	default:
		u.file.Close(partial)
	}
}
