package divert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// advertise sends a router advertisement (RFC 4861, 4.2) by an interface of the box.
func (b *box) advertise(iface string, lifetime time.Duration) {
	b.t.Helper()
	b.do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		defer func() { _ = unix.Close(fd) }()
		h, err := b.space().routes()
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := h.LinkByName(iface)
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
		)
		if err != nil {
			return fmt.Errorf("options: %w", err)
		}
		ra := make([]byte, 16)
		ra[0], ra[4] = 134, 64
		binary.BigEndian.PutUint16(ra[6:], uint16(lifetime/time.Second))
		all := netip.MustParseAddr("ff02::1")
		return unix.Sendto(fd, ra, 0, &unix.SockaddrInet6{Addr: all.As16(), ZoneId: uint32(index)})
	})
}

var expires = regexp.MustCompile(`default via fe80::1 dev wan proto ra .*expires (\d+)sec`)

// defaultRoute returns how many seconds the route learnt from advertisements still has; an error where there is none.
func (w *world) defaultRoute() (int, error) {
	out := w.host.run("ip", "-6", "route", "show", "default")
	m := expires.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no default route from an advertisement: %q", out)
	}
	return strconv.Atoi(m[1])
}

func (w *world) advertised(router *box, lifetime time.Duration) {
	w.t.Helper()
	router.advertise("wan", lifetime)
	seconds := int(lifetime / time.Second)
	eventually(w.t, patience, func() error {
		left, err := w.defaultRoute()
		if err == nil && (left > seconds || left < seconds-60) {
			err = fmt.Errorf("route of %d s, not %d", left, seconds)
		}
		return err
	})
}

// conf snapshots every forwarding and accept_ra sysctl of the host.
func (w *world) conf() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	w.host.do(func() error {
		for _, family := range []string{"ipv4", "ipv6"} {
			dir, err := os.ReadDir(procNet + family + "/conf")
			if err != nil {
				return err
			}
			for _, e := range dir {
				for _, name := range []string{"forwarding", "accept_ra", "force_forwarding"} {
					path := procNet + family + "/conf/" + e.Name() + "/" + name
					if v, err := get(path); err == nil {
						out[strings.TrimPrefix(path, procNet)] = v
					}
				}
			}
		}
		return nil
	})
	return out
}

func TestDefaultRouteFromAdvertisementsSurvives(t *testing.T) {
	t.Parallel()
	for _, classic := range []bool{true, false} {
		t.Run(fmt.Sprintf("all.forwarding %v", classic), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			router := w.user // any machine of the wide network will do
			router.address("wan", "fe80::1/64")
			w.host.sysctl("net/ipv6/conf/core/accept_ra", "2") // the owner's own
			w.advertised(router, 300*time.Second)
			before := w.conf()

			o := w.options()
			d, err := New(o)
			require.NoError(t, err)
			d.forward.classic = classic
			stop := w.running(d)
			got, err := d.Set(t.Context(), desiredOf(redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001")))
			requireActive(t, got, err)
			assert.Equal(t, "node "+core6, w.attacker.meets("["+host6+"]:22"))
			if classic {
				assert.Equal(t, "1", w.host.value("net/ipv6/conf/all/forwarding"))
				assert.Equal(t, "2", w.host.value("net/ipv6/conf/wan/accept_ra"))
			} else {
				assert.Equal(t, "0", w.host.value("net/ipv6/conf/all/forwarding"), "the host stays a host")
			}
			require.Error(t, w.user.probe("["+behind6+"]:22"), "nothing else is forwarded")
			_, err = w.defaultRoute()
			require.NoError(t, err, "survives the turn")
			w.advertised(router, 1800*time.Second) // refreshed
			w.host.run("ip", "-6", "route", "del", "default")
			w.advertised(router, 900*time.Second) // learnt anew

			// An interface that comes up meanwhile accepts advertisements, too, and is as others in the end.
			w.host.run("ip", "link", "add", "late", "type", "bridge")
			stop()
			require.NoError(t, Release(t.Context(), o))
			_, err = w.defaultRoute()
			require.NoError(t, err, "survives the return")
			after := w.conf()
			for name, v := range after {
				if strings.Contains(name, "/late/") {
					assert.Equal(t, before[strings.Replace(name, "/late/", "/wan/", 1)], v, name)
					delete(after, name)
				}
			}
			assert.Equal(t, before, after)
			w.advertised(router, 1800*time.Second)
		})
	}
}

func TestSysctlsReturnWhenNothingIsRedirectedAnyMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.conf()
	o := w.options()
	o.Idle, o.Tick = 100*time.Millisecond, 50*time.Millisecond
	d, _ := w.start(o)
	got, err := d.Set(t.Context(), desiredOf(
		redirectOf("a", attacker4+"/32", node4+":20001"), redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"),
	))
	requireActive(t, got, err)
	assert.NotEqual(t, before, w.conf())
	assert.Equal(t, "0", w.host.value("net/ipv4/ip_forward"), "per interface only")
	_, err = d.Set(t.Context(), desiredOf())
	require.NoError(t, err)
	eventually(t, patience, func() error {
		if all := w.host.run("nft", "list", "ruleset"); all != "" {
			return fmt.Errorf("left: %s", all)
		}
		return nil
	})
	assert.Equal(t, before, w.conf())
	assert.NoFileExists(t, w.dir+"/"+stateFile)

	got, err = d.Put(t.Context(), []event.Redirect{redirectOf("a", attacker4+"/32", node4+":20001")})
	requireActive(t, got, err)
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"), "and again")
}

func TestForwardingTurnedOnByOthersStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	d, stop := w.start(o)
	rs := desiredOf(redirectOf("a", attacker4+"/32", node4+":20001"), redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"))
	got, err := d.Set(t.Context(), rs)
	requireActive(t, got, err)
	require.Error(t, w.user.probe(behind4+":22"))
	w.routed() // Docker starts
	got, err = d.Set(t.Context(), rs)
	requireActive(t, got, err)
	assert.Equal(t, "behind "+user4, w.user.meets(behind4+":22"), "what they forward is not dropped")
	assert.Equal(t, "behind "+user6, w.user.meets("["+behind6+"]:22"))
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
	stop()
	require.NoError(t, Release(t.Context(), o))
	assert.Equal(t, "behind "+user4, w.user.meets(behind4+":22"), "nor turned off")
	assert.Equal(t, "behind "+user6, w.user.meets("["+behind6+"]:22"))
}

func TestStateOfAnotherBootIsVoid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	st := &state{Identity: "another/1", Sysctls: []sysctl{{Path: forward4("wan"), Old: "0", New: "1"}}}
	require.NoError(t, st.save(w.dir))
	w.host.sysctl("net/ipv4/conf/wan/forwarding", "1")
	require.NoError(t, Release(t.Context(), w.options()))
	assert.Equal(t, "1", w.host.value("net/ipv4/conf/wan/forwarding"))
}

func TestReadOnlySysctlsAreRefusedWithTheMend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, _ := w.start(w.options())
	d.forward.put = func(path, _ string) error { return &os.PathError{Op: "open", Path: path, Err: unix.EROFS} }
	got, err := d.Set(t.Context(), desiredOf(
		redirectOf("a", attacker4+"/32", node4+":20001"), redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"),
	))
	require.NoError(t, err)
	require.Len(t, got, 2)
	for _, a := range got {
		assert.Equal(t, event.Refused, a.State)
	}
	assert.Contains(t, got[0].Reason, "read-only file system; mend: /proc/sys is read-only here: start this container with --sysctl net.ipv4.ip_forward=1")
	assert.Contains(t, got[1].Reason, "--sysctl net.ipv6.conf.all.forwarding=1")
	assert.Len(t, d.Findings(), 2)
	assert.NotContains(t, w.table(), attacker4)

	// Where forwarding is on already, sysctls need not be written.
	w.routed()
	got, err = d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
	requireActive(t, got, err)
}
