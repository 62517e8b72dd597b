package names

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxQuery   = 4096 // bytes of a question that is looked at
	plainReply = 512  // bytes of an answer by UDP, unless the question says otherwise (RFC 1035, 4.2.1)
	mostReply  = 1232 // and at most (DNS Flag Day 2020)
)

// ErrSilent says that a message gets no answer.
var ErrSilent = errors.New("no question")

// Question is what was asked, and what was answered.
type Question struct {
	Name   string // bytes of the asker's, without the last dot
	Type   string // A, AAAA, …, or TYPE123
	Code   string // NOERROR, NXDOMAIN, …
	Answer []string
	// Invented are the addresses of the answer that stand for Name and are nobody's we know.
	Invented []netip.Addr
}

// reply is an answer in the making.
type reply struct {
	w    World
	m    Machine
	q    *Question
	name string // asked for, in lower case without the last dot
	of   dnsmessage.Question
	code dnsmessage.RCode
	rrs  []dnsmessage.Resource
	soa  string // zone whose SOA says that there is no more; empty: none
}

// Answer answers a message. Stream says that it came by TCP, where an answer may be long.
func (w World) Answer(msg []byte, stream bool, m Machine) (out []byte, q Question, err error) {
	if len(msg) > maxQuery {
		return nil, q, ErrSilent
	}
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.Response {
		return nil, q, ErrSilent
	}
	answer := dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
		CheckingDisabled: h.CheckingDisabled,
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 || h.OpCode != 0 {
		answer.RCode = dnsmessage.RCodeFormatError
		if h.OpCode != 0 {
			answer.RCode = dnsmessage.RCodeNotImplemented
		}
		q.Code = codeName(answer.RCode)
		out, err = pack(answer, nil, nil, false)
		return out, q, err
	}
	r := &reply{w: w, m: m, q: &q, of: questions[0]}
	q.Name = strings.TrimSuffix(r.of.Name.String(), ".")
	q.Type = typeName(r.of.Type)
	r.name = strings.ToLower(q.Name)
	r.decide()
	q.Code, answer.RCode = codeName(r.code), r.code
	size, edns := sizeOf(&p)
	out, err = pack(answer, r, questions, edns)
	if err == nil && !stream && len(out) > size {
		answer.Truncated = true
		r.rrs, r.soa = nil, ""
		out, err = pack(answer, r, questions, edns)
	}
	return out, q, err
}

// sizeOf returns how long an answer may be, and whether the question has EDNS (RFC 6891).
func sizeOf(p *dnsmessage.Parser) (size int, edns bool) {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return plainReply, false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return plainReply, false
		}
		if h.Type == dnsmessage.TypeOPT {
			return min(max(int(h.Class), plainReply), mostReply), true
		}
		if p.SkipAdditional() != nil {
			return plainReply, false
		}
	}
}

func pack(h dnsmessage.Header, r *reply, questions []dnsmessage.Question, edns bool) ([]byte, error) {
	m := dnsmessage.Message{Header: h, Questions: questions}
	if r != nil {
		m.Answers = r.rrs
		if soa, ok := r.authority(); ok {
			m.Authorities = append(m.Authorities, soa)
		}
	}
	if edns {
		var rh dnsmessage.ResourceHeader
		if err := rh.SetEDNS0(mostReply, 0, false); err == nil {
			rh.Name = dnsmessage.MustNewName(".")
			m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: rh, Body: &dnsmessage.OPTResource{}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("make an answer: %w", err)
	}
	return out, nil
}

// decide fills in what there is to say.
func (r *reply) decide() {
	if r.of.Class != dnsmessage.ClassINET {
		r.code = dnsmessage.RCodeRefused // version.bind and the like
		return
	}
	switch {
	case r.name == "":
		r.root()
		return
	case strings.HasSuffix(r.name, ".arpa"):
		r.reverse()
		return
	case r.own():
		return
	}
	domain, label, ok := Registered(r.name)
	if !ok || Nonsense(label) {
		r.code, r.soa = dnsmessage.RCodeNameError, parentOf(r.name, ok)
		return
	}
	r.soa = domain // unless there is an answer
	switch r.of.Type {
	case dnsmessage.TypeA:
		r.addresses(r.w.Addresses(r.name, true))
	case dnsmessage.TypeAAAA:
		r.addresses(r.w.Addresses(r.name, false))
	case dnsmessage.TypeALL:
		r.add(&dnsmessage.UnknownResource{Type: typeHINFO, Data: []byte("\x07RFC8482\x00")}, "HINFO RFC8482")
	default:
		if r.name == domain {
			r.apex(domain)
		}
	}
}

const typeHINFO = dnsmessage.Type(13)

// apex answers what only a domain itself has.
func (r *reply) apex(domain string) {
	switch r.of.Type { //nolint:exhaustive // of the others there are none
	case dnsmessage.TypeMX:
		mx := "mail." + domain
		if r.w.sum("mx", domain)[0]%3 == 0 {
			mx = "mx1." + domain
		}
		r.add(&dnsmessage.MXResource{Pref: 10, MX: name(mx)}, "10 "+mx)
	case dnsmessage.TypeTXT:
		text := "v=spf1 a mx ~all"
		if r.w.sum("txt", domain)[0]&1 == 0 {
			text = "v=spf1 mx -all"
		}
		r.add(&dnsmessage.TXTResource{TXT: []string{text}}, text)
	case dnsmessage.TypeNS:
		for _, ns := range []string{"ns1." + domain, "ns2." + domain} {
			r.add(&dnsmessage.NSResource{NS: name(ns)}, ns)
		}
	case dnsmessage.TypeSOA:
		body := r.soaOf(domain)
		r.add(body, body.NS.String())
	}
}

// own answers for the asker itself.
func (r *reply) own() bool {
	base, local := strings.CutSuffix(r.name, ".localdomain")
	host := strings.ToLower(r.m.Name)
	short, _, _ := strings.Cut(host, ".")
	switch {
	case r.name == "localhost" || strings.HasSuffix(r.name, ".localhost") || base == "localhost" && local:
		r.either(netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	case host != "" && (r.name == host || r.name == short || base == short && local):
		r.either(r.m.Addresses...)
	default:
		return false
	}
	return true
}

// either answers with those addresses that are of the family that was asked for.
func (r *reply) either(addrs ...netip.Addr) {
	for _, a := range addrs {
		if a.Is4() && r.of.Type == dnsmessage.TypeA || a.Is6() && r.of.Type == dnsmessage.TypeAAAA {
			r.address(a)
		}
	}
}

func (r *reply) addresses(addrs []netip.Addr) {
	for _, a := range addrs {
		r.address(a)
	}
	r.q.Invented = addrs
}

func (r *reply) address(a netip.Addr) {
	if a.Is4() {
		r.add(&dnsmessage.AResource{A: a.As4()}, a.String())
		return
	}
	r.add(&dnsmessage.AAAAResource{AAAA: a.As16()}, a.String())
}

// reverse answers for addresses.
func (r *reply) reverse() {
	a, ok := addressOf(r.name)
	if !ok || r.of.Type != dnsmessage.TypePTR {
		r.code, r.soa = dnsmessage.RCodeNameError, strings.Join(lastLabels(r.name, 3), ".")
		return
	}
	var of string
	switch {
	case a.IsLoopback():
		of = "localhost"
	case slices.Contains(r.m.Addresses, a):
		of = r.m.Name
	}
	for _, k := range known() {
		if of == "" && strings.HasSuffix(k.v4, "/32") && (k.v4 == a.String()+"/32" || k.v6 == a.String()+"/128") {
			of = k.domain
		}
	}
	if of == "" && r.m.NameOf != nil {
		if name, ok := r.m.NameOf(a); ok {
			of = name
		}
	}
	n, err := dnsmessage.NewName(of + ".")
	if of == "" || err != nil {
		r.code, r.soa = dnsmessage.RCodeNameError, strings.Join(lastLabels(r.name, 3), ".")
		return
	}
	r.add(&dnsmessage.PTRResource{PTR: n}, of)
}

// addressOf reads a name of in-addr.arpa or ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5).
func addressOf(n string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(n, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(n, ".ip6.arpa")
	digits := strings.ReplaceAll(rest, ".", "")
	if !ok || len(rest) != 63 || len(digits) != 32 {
		return netip.Addr{}, false
	}
	text := []byte(digits)
	slices.Reverse(text)
	raw, err := hex.DecodeString(string(text))
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(raw)
}

// root answers for the root of all names.
func (r *reply) root() {
	if r.of.Type != dnsmessage.TypeNS {
		r.soa = "."
		return
	}
	for c := 'a'; c <= 'm'; c++ {
		ns := string(c) + ".root-servers.net"
		r.add(&dnsmessage.NSResource{NS: name(ns)}, ns)
	}
}

func (r *reply) add(body dnsmessage.ResourceBody, text string) {
	r.soa = ""
	r.rrs = append(r.rrs, dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: r.of.Name, Class: dnsmessage.ClassINET, TTL: r.w.TTL(r.name)},
		Body:   body,
	})
	r.q.Answer = append(r.q.Answer, text)
}

func (r *reply) authority() (dnsmessage.Resource, bool) {
	zone := name(r.soa)
	if r.soa == "" || zone.Length == 0 {
		return dnsmessage.Resource{}, false
	}
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: zone, Class: dnsmessage.ClassINET, TTL: min(r.w.TTL(r.name), 900)},
		Body:   r.soaOf(r.soa),
	}, true
}

func (r *reply) soaOf(zone string) *dnsmessage.SOAResource {
	day := r.w.now().UTC().AddDate(0, 0, -int(r.w.sum("soa", zone)[0])%60)
	serial := uint32(day.Year()*1000000 + int(day.Month())*10000 + day.Day()*100 + 1)
	s := &dnsmessage.SOAResource{
		NS: name("ns1." + zone), MBox: name("hostmaster." + zone), Serial: serial,
		Refresh: 7200, Retry: 3600, Expire: 1209600, MinTTL: 3600,
	}
	switch {
	case zone == "." || !strings.Contains(zone, "."):
		s.NS, s.MBox = name("a.root-servers.net"), name("nstld.verisign-grs.com")
		s.Refresh, s.Retry, s.Expire, s.MinTTL = 1800, 900, 604800, 86400
	case s.NS.Length == 0 || s.MBox.Length == 0: // the zone's name is nearly as long as names may be
		s.NS, s.MBox = name(zone), name(zone)
	}
	return s
}

// name makes a name of text without its last dot; the empty name where it is none.
func name(text string) dnsmessage.Name {
	n, err := dnsmessage.NewName(strings.TrimSuffix(text, ".") + ".")
	if err != nil {
		return dnsmessage.Name{}
	}
	return n
}

// parentOf returns the zone that says that a name is not there: the root, or its top-level domain.
func parentOf(n string, registered bool) string {
	if !registered {
		return "."
	}
	return lastLabels(n, 1)[0]
}

func lastLabels(n string, count int) []string {
	labels := strings.Split(n, ".")
	return labels[max(0, len(labels)-count):]
}

func typeName(t dnsmessage.Type) string {
	if t == typeHINFO {
		return "HINFO"
	}
	if text := t.String(); strings.HasPrefix(text, "Type") {
		return strings.TrimPrefix(text, "Type")
	}
	return "TYPE" + strconv.Itoa(int(t))
}

func codeName(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeSuccess:
		return "NOERROR"
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return c.String()
}
