package transfer

import "slices"

const (
	maxHandles  = 64  // files that are open at once
	maxOpenings = 256 // OPENs without an answer
)

// opening is an OPEN or OPENDIR without an answer.
type opening struct {
	id     uint32
	path   string
	write  bool
	append bool
	early  string // the handle that was written to before the answer
}

// upload is what a handle stands for.
type upload struct {
	file   *file // nil until something is written, where nobody knows what the handle is for
	append bool
}

// handles knows which handle is which file. A client that does not wait for the answer to its OPEN writes to the handle
// that it expects: that is taken for the oldest OPEN that was not yet written to.
type handles struct {
	create   Create
	openings []opening // in the order in which they were asked
	uploads  map[string]*upload
	lost     bool
}

func newHandles(create Create) handles {
	return handles{create: create, uploads: map[string]*upload{}}
}

func (h *handles) asked(o opening) {
	if len(h.openings) >= maxOpenings {
		h.lost = true
		return
	}
	h.openings = append(h.openings, o)
}

// take removes and returns the oldest opening with an id: clients may use an id twice, servers answer in order.
func (h *handles) take(id uint32) (opening, bool) {
	i := slices.IndexFunc(h.openings, func(o opening) bool { return o.id == id })
	if i < 0 {
		return opening{}, false
	}
	o := h.openings[i]
	h.openings = slices.Delete(h.openings, i, i+1)
	return o, true
}

// answered binds a handle to the file that was opened.
func (h *handles) answered(id uint32, handle string) {
	o, known := h.take(id)
	if o.early != "" && o.early == handle {
		return
	}
	h.passOn(o.early)
	switch {
	case handle == "":
		h.lost = h.lost || o.write || !known
	case o.write:
		h.bind(handle, func() *upload { return h.begin(o) })
	case !known:
		h.bind(handle, func() *upload { return &upload{} })
	}
}

// refused handles a status: if it answers an OPEN, that has failed.
func (h *handles) refused(id uint32) {
	o, _ := h.take(id)
	if !h.passOn(o.early) {
		h.drop(o.early)
	}
}

// passOn gives a handle that was not this opening's to the next one.
func (h *handles) passOn(early string) bool {
	if early == "" {
		return false
	}
	next := h.unwritten()
	if next == nil {
		return false
	}
	next.early = early
	return true
}

// unwritten returns the oldest opening that was not yet written to.
func (h *handles) unwritten() *opening {
	i := slices.IndexFunc(h.openings, func(o opening) bool { return o.write && o.early == "" })
	if i < 0 {
		return nil
	}
	return &h.openings[i]
}

func (h *handles) begin(o opening) *upload {
	return &upload{file: begin(h.create, HowSFTP, o.path), append: o.append}
}

// bind has a handle stand for what begin returns.
func (h *handles) bind(handle string, begin func() *upload) *upload {
	h.drop(handle)
	if len(h.uploads) >= maxHandles {
		h.lost = true
		return nil
	}
	u := begin()
	h.uploads[handle] = u
	return u
}

// writing returns what a handle stands for that is written to; nil if that is not known.
func (h *handles) writing(handle string) *upload {
	u := h.uploads[handle]
	if u == nil {
		return h.writingEarly(handle)
	}
	if u.file == nil {
		u.file = begin(h.create, HowSFTP, "")
	}
	return u
}

func (h *handles) writingEarly(handle string) *upload {
	o := h.unwritten()
	if o == nil {
		return nil
	}
	o.early = handle
	return h.bind(handle, func() *upload { return h.begin(*o) })
}

// close handles a CLOSE.
func (h *handles) close(handle string) { h.forget(handle, false) }

// drop ends a file whose handle was not closed.
func (h *handles) drop(handle string) { h.forget(handle, true) }

func (h *handles) forget(handle string, partial bool) {
	u := h.uploads[handle]
	delete(h.uploads, handle)
	if u != nil && u.file != nil {
		u.file.close(partial)
	}
}

// end ends all files in the order of their handles.
func (h *handles) end() {
	open := make([]string, 0, len(h.uploads))
	for handle := range h.uploads {
		open = append(open, handle)
	}
	slices.Sort(open)
	for _, handle := range open {
		h.drop(handle)
	}
	h.openings = nil
}
