package sink

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

// secret returns bytes that are always the same for a purpose and a text.
func (s *Sink) secret(purpose, text string) [sha256.Size]byte {
	h := hmac.New(sha256.New, s.o.Secret)
	h.Write([]byte(purpose + "\x00" + text))
	return [sha256.Size]byte(h.Sum(nil))
}

// madeUp is a plausible answer. It does nothing to who takes it: scripts are empty, programs end at once with
// success, archives hold nothing.
func (s *Sink) madeUp(p Pot, host string, r firstbytes.Request) answer {
	seed := s.secret("answer", host+" "+r.Target)
	server := []string{"nginx", "nginx/1.18.0 (Ubuntu)", "Apache/2.4.52 (Ubuntu)", "nginx/1.22.1"}[s.secret("server", host)[0]%4]
	a := answer{status: 200, headers: []firstbytes.Header{{Name: "Server", Value: server}, {Name: "Date", Value: httpTime(time.Now())}}}
	target, _, _ := strings.Cut(r.Target, "?")
	name := strings.ToLower(path.Base(target))
	switch {
	case r.Method == "CONNECT":
		a.status, a.body, a.close = 405, errorPage(405, server), true
		return a.typed("text/html")
	case r.Method == "OPTIONS":
		a.status = 204
		a.headers = append(a.headers, firstbytes.Header{Name: "Allow", Value: "GET, HEAD, POST, OPTIONS"})
		return a
	case whoAmI(host, name) && publicAddress(p).IsValid():
		a.body = []byte(publicAddress(p).String() + "\n")
		return a.typed("text/plain")
	case name == "generate_204":
		a.status = 204
		return a
	case mirror(host, target), metadata(host):
		a.status, a.body = 404, errorPage(404, server)
		return a.typed("text/html")
	case r.Method != "GET" && r.Method != "HEAD":
		a.body = []byte("OK\n")
		return a.typed("text/plain")
	}
	kind, body := content(name, target, seed)
	a.body = body
	changed := time.Now().Add(-time.Duration(24+int(binary.BigEndian.Uint16(seed[2:]))%2000) * time.Hour).Truncate(24 * time.Hour).Add(time.Duration(seed[4]) * 5 * time.Minute)
	a.headers = append(a.headers, firstbytes.Header{Name: "Last-Modified", Value: httpTime(changed)},
		firstbytes.Header{Name: "ETag", Value: `"` + hex.EncodeToString(seed[5:9]) + fmt.Sprintf("-%x", len(body)) + `"`}, firstbytes.Header{Name: "Accept-Ranges", Value: "bytes"})
	return a.typed(kind)
}

func (a answer) typed(kind string) answer {
	a.headers = append(a.headers, firstbytes.Header{Name: "Content-Type", Value: kind})
	return a
}

// whoAmI reports services that tell a caller its own address.
func whoAmI(host, name string) bool {
	return name != "json" && name != "country" && slices.Contains([]string{
		"api.ipify.org", "ifconfig.me", "icanhazip.com", "ipv4.icanhazip.com", "checkip.amazonaws.com", "ident.me", "ipecho.net", "ifconfig.co",
		"ip.sb", "api.ip.sb", "myexternalip.com", "wtfismyip.com", "ifconfig.io", "ipinfo.io", "whatismyip.akamai.com",
	}, host)
}

// mirror reports where packages come from: what is made up would be no package.
func mirror(host, target string) bool {
	for _, h := range []string{"debian.org", "ubuntu.com", "centos.org", "fedoraproject.org", "alpinelinux.org", "archlinux.org", "kali.org"} {
		if host == h || strings.HasSuffix(host, "."+h) {
			return true
		}
	}
	return strings.Contains(target, "/dists/") || strings.HasSuffix(target, ".deb") || strings.HasSuffix(target, ".rpm") || strings.HasSuffix(target, ".apk")
}

// metadata reports the services that tell machines of clouds about themselves; this machine is in none.
func metadata(host string) bool {
	return host == "169.254.169.254" || host == "metadata.google.internal" || host == "100.100.100.200"
}

// content makes up a file.
func content(name, target string, seed [sha256.Size]byte) (kind string, body []byte) {
	ext := strings.TrimPrefix(path.Ext(name), ".")
	switch {
	case ext == "html", ext == "htm", ext == "php", ext == "asp", ext == "aspx", ext == "jsp", strings.HasSuffix(target, "/"), name == ".":
		return "text/html", []byte("<!DOCTYPE html>\n<html>\n<head>\n<title>Index</title>\n</head>\n<body>\n</body>\n</html>\n")
	case ext == "json":
		return "application/json", []byte("{}\n")
	case ext == "txt", ext == "ini", ext == "conf", ext == "cfg", ext == "csv":
		return "text/plain", []byte("\n")
	case ext == "py":
		return "text/x-python", []byte("#!/usr/bin/env python3\n")
	case ext == "pl":
		return "text/x-perl", []byte("#!/usr/bin/perl\n1;\n")
	case ext == "tgz", strings.HasSuffix(name, ".tar.gz"), ext == "gz":
		return "application/gzip", gzipped(make([]byte, 10240)) // of a tar without files: only its end
	case ext == "tar":
		return "application/x-tar", make([]byte, 10240)
	case ext == "zip":
		return "application/zip", append([]byte("PK\x05\x06"), make([]byte, 18)...) // the end of a directory without entries
	case program(name, ext):
		return "application/octet-stream", executable(seed)
	}
	return "application/x-sh", []byte("#!/bin/sh\n") // what is piped to a shell, or run as a file, ends well
}

// program reports names that compiled programs of droppers have: of an architecture, or of a miner.
func program(name, ext string) bool {
	switch ext {
	case "elf", "bin", "so", "exe", "out", "run":
		return true
	}
	for _, arch := range []string{
		"x86", "x64", "i586", "i686", "amd64", "mips", "mpsl", "arm", "aarch64", "ppc", "powerpc", "m68k", "sh4", "spc", "sparc", "xmrig", "miner", "kinsing", "linux",
	} {
		if strings.Contains(name, arch) && ext != "sh" {
			return true
		}
	}
	return false
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // to memory
	_ = w.Close()
	return out.Bytes()
}

// executable is a program for x86-64 that ends at once with success, as large as programs are: an ELF header and
// one program header (System V ABI, gABI 4 and 5), exit(0), and noise that is never loaded.
func executable(seed [sha256.Size]byte) []byte {
	const base, head = 0x400000, 64 + 56
	code := []byte{0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05} // xor edi, edi; mov eax, 60; syscall
	le := binary.LittleEndian
	b := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0}, make([]byte, 8)...)
	b = le.AppendUint16(b, 2)    // an executable
	b = le.AppendUint16(b, 0x3e) // x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head) // entry
	b = le.AppendUint64(b, 64)        // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // to be loaded
	b = le.AppendUint32(b, 5) // to be read and run
	size := uint64(head + len(code))
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	b = append(b, code...)
	noise := make([]byte, 30_000+int(binary.BigEndian.Uint16(seed[9:])))
	_, _ = rand.NewChaCha8(seed).Read(noise) // never fails
	return append(b, noise...)
}

// errorPage is what a server says where it has nothing.
func errorPage(status int, server string) []byte {
	text := statusText(status)
	if strings.HasPrefix(server, "nginx") {
		return fmt.Appendf(nil, "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%[1]d %[2]s</h1></center>\r\n<hr><center>%s</center>\r\n</body>\r\n</html>\r\n", status, text, server)
	}
	return fmt.Appendf(nil, "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>%d %s</title>\n</head><body>\n<h1>%[2]s</h1>\n</body></html>\n", status, text)
}
