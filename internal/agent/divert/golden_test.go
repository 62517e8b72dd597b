package divert

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTableIsGolden(t *testing.T) {
	t.Parallel()
	rs := []event.Redirect{
		redirectOf("a", attacker4+"/32", node4+":20001"),
		redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"),
		redirectOf("c", "2001:db8:1:67::67/128", "["+node6+"]:20002"),
	}
	for _, tc := range []struct {
		file  string
		setup func(*world, *Divert)
	}{
		{"forwarding-was-on.nft", func(w *world, _ *Divert) { w.routed() }},
		{"forwarding-was-off.nft", func(*world, *Divert) {}},
		{"forwarding-was-off-old-kernel.nft", func(_ *world, d *Divert) { d.forward.classic = true }},
	} {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options()
			o.Endpoints = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:2::/64")}
			d, err := New(o)
			require.NoError(t, err)
			defer d.Close()
			tc.setup(w, d)
			got, err := d.Set(t.Context(), desiredOf(rs...))
			requireActive(t, got, err)
			path := filepath.Join("testdata", tc.file)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(w.table()), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), w.table())
		})
	}
}
