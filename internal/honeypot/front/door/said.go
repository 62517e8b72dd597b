package door

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

const (
	maxLine    = 4096 // bytes of a line of sshd's that are looked at
	maxPending = 256  // forwarded connections at once whose fate is followed
	maxAddress = 512  // bytes of a destination that are kept
)

// said is what an sshd logged of a connection: of all that it decides by itself nobody else hears.
type said struct {
	note    func(event.Evidence)
	number  func() uint32
	pending []pending
	listens []pending
	grace   bool // it waited for a login for too long
	tries   bool // there were too many
	spoilt  bool // its configuration is none
	words   words
}

// pending is a request whose answer is still to come.
type pending struct {
	forward event.Forward
	channel uint32
}

// words are the lines that say something (OpenSSH 8.4 to 9.2: serverloop.c, channels.c, auth.c, sshd.c).
type words struct {
	connect, connectPath, listen, listenPath, cancel, connected, failed, unknown, refused, bound, unbound, forwarded *regexp.Regexp
}

func newWords() words {
	// What is between the first words and the last is the attacker's.
	return words{
		connect:     regexp.MustCompile(`^debug1: server_request_direct_tcpip: originator (.*) port ([0-9]+), target (.*) port ([0-9]+)$`),
		connectPath: regexp.MustCompile(`^debug1: server_request_direct_streamlocal: originator (.*) port ([0-9]+), target (.*)$`),
		listen:      regexp.MustCompile(`^debug1: server_input_global_request: tcpip-forward listen (.*) port ([0-9]+)$`),
		listenPath:  regexp.MustCompile(`^debug1: server_input_global_request: streamlocal-forward(?:@openssh\.com)? listen path (.*)$`),
		cancel:      regexp.MustCompile(`^debug1: server_input_global_request: cancel-tcpip-forward addr (.*) port ([0-9]+)$`),
		connected:   regexp.MustCompile(`^debug1: channel [0-9]+: connected to (.*) port (-?[0-9]+)$`),
		failed:      regexp.MustCompile(`^(?:error: )?connect_to (.*) port (-?[0-9]+): failed\.$`),
		unknown:     regexp.MustCompile(`^(?:error: )?connect_to (.*): unknown host \(.*\)$`),
		refused:     regexp.MustCompile(`^[Rr]efused (?:local|streamlocal) port forward: originator .* port [0-9]+, target (.*?)(?: port ([0-9]+))?$`),
		bound:       regexp.MustCompile(`^debug1: Local forwarding listening on (?:.*) port [0-9]+\.$|^debug1: Local forwarding listening on path .*$`),
		unbound: regexp.MustCompile(`^(?:error: )?channel_setup_fwd_listener_(?:tcpip|streamlocal): (?:cannot listen|getaddrinfo|unix_listener|no path|.*failed).*$` +
			`|^debug1: server_input_global_request: port forwarding denied.*$`),
		forwarded: regexp.MustCompile(`^debug1: Connection to port ([0-9]+) forwarding to (.*) port (-?[0-9]+) requested\.$`),
	}
}

// read hears sshd out.
func (s *said) read(r io.Reader) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		s.line(strings.TrimRight(string(line), "\r\n"))
		for err == bufio.ErrBufferFull { //nolint:errorlint // it is never wrapped
			_, err = br.ReadSlice('\n')
		}
		if err != nil {
			break
		}
	}
	for _, p := range append(s.pending, s.listens...) {
		p.forward.Refused = true // it never came to be
		s.tell(p)
	}
	s.pending, s.listens = nil, nil
}

func (s *said) line(l string) {
	l = strings.TrimSuffix(l, " [preauth]")
	switch {
	case strings.Contains(l, "forward"), strings.Contains(l, "direct_"), strings.Contains(l, "connect"), strings.Contains(l, "channel_setup_fwd"):
		s.forwarding(l)
	case strings.HasPrefix(l, "Timeout before authentication"), strings.HasPrefix(l, "fatal: Timeout before authentication"):
		s.grace = true
	case strings.HasPrefix(l, doorDir+"/config-"): // nothing of the attacker's begins a line
		s.spoilt = true
	case strings.Contains(l, ": Too many authentication failures"), strings.HasPrefix(l, "error: maximum authentication attempts exceeded"):
		s.tries = true
	}
}

func (s *said) forwarding(l string) {
	w := s.words
	if m := w.connect.FindStringSubmatch(l); m != nil {
		s.ask(&s.pending, event.Forward{
			What: "direct-tcpip", Destination: front.Clip(m[3], maxAddress), Port: port(m[4]), Origin: front.Clip(m[1], maxAddress), OriginPort: port(m[2]),
		})
	} else if m := w.connectPath.FindStringSubmatch(l); m != nil {
		s.ask(&s.pending, event.Forward{What: "direct-streamlocal@openssh.com", Destination: front.Clip(m[3], maxAddress)})
	} else if m := w.listen.FindStringSubmatch(l); m != nil {
		s.ask(&s.listens, event.Forward{What: "tcpip-forward", Destination: front.Clip(m[1], maxAddress), Port: port(m[2])})
	} else if m := w.listenPath.FindStringSubmatch(l); m != nil {
		s.ask(&s.listens, event.Forward{What: "streamlocal-forward@openssh.com", Destination: front.Clip(m[1], maxAddress)})
	} else if m := w.cancel.FindStringSubmatch(l); m != nil {
		s.tell(pending{forward: event.Forward{What: "cancel-tcpip-forward", Destination: front.Clip(m[1], maxAddress), Port: port(m[2])}})
	} else if m := w.forwarded.FindStringSubmatch(l); m != nil {
		s.tell(pending{channel: s.number(), forward: event.Forward{What: "forwarded-tcpip", Port: port(m[1])}})
	} else {
		s.answer(l)
	}
}

// answer finds which request a line answers.
func (s *said) answer(l string) {
	w := s.words
	switch {
	case w.bound.MatchString(l):
		s.settle(&s.listens, func(event.Forward) bool { return true }, false)
	case w.unbound.MatchString(l):
		s.settle(&s.listens, func(event.Forward) bool { return true }, true)
	}
	to := func(host, number string) func(event.Forward) bool {
		return func(f event.Forward) bool {
			return string(f.Destination) == host && (number == "" || number == "-2" || f.Port == port(number))
		}
	}
	if m := w.connected.FindStringSubmatch(l); m != nil {
		s.settle(&s.pending, to(m[1], m[2]), false)
	} else if m := w.failed.FindStringSubmatch(l); m != nil {
		s.settle(&s.pending, to(m[1], m[2]), true)
	} else if m := w.unknown.FindStringSubmatch(l); m != nil {
		s.settle(&s.pending, to(m[1], ""), true)
	} else if m := w.refused.FindStringSubmatch(l); m != nil {
		s.settle(&s.pending, to(m[1], m[2]), true)
	}
}

func (s *said) ask(list *[]pending, f event.Forward) {
	p := pending{forward: f, channel: s.number()}
	if len(*list) >= maxPending {
		s.tell((*list)[0])
		*list = (*list)[1:]
	}
	*list = append(*list, p)
}

// settle notes the first request that fits.
func (s *said) settle(list *[]pending, fits func(event.Forward) bool, refused bool) {
	for i, p := range *list {
		if fits(p.forward) {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			p.forward.Refused = refused
			s.tell(p)
			return
		}
	}
}

func (s *said) tell(p pending) {
	s.note(event.Evidence{Kind: event.EvidenceForward, Channel: p.channel, Forward: &p.forward})
}

func port(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32) // digits, by the expression
	return uint32(n)
}
