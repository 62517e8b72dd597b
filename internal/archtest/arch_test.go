// Package archtest holds the rules of the house that a compiler can't check: who imports whom, and that
// every package says what it is for.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/kokkuri/kokkuri"

type listed struct {
	ImportPath string   `json:"ImportPath"`
	Doc        string   `json:"Doc"`
	Imports    []string `json:"Imports"`
	Deps       []string `json:"Deps"`
	GoFiles    []string `json:"GoFiles"`
	Name       string   `json:"Name"`
}

// list asks the go command for packages.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Doc,Imports,Deps,GoFiles,Name"}, args...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	return packages
}

// below reports whether a package is folder or in it.
func below(pkg, folder string) bool {
	folder = module + "/" + folder
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

func TestArchitecture(t *testing.T) {
	all := list(t, "./...")
	t.Run("roles never import each other", func(t *testing.T) { rolesNeverImportEachOther(t, all) })
	t.Run("event imports nothing of ours", func(t *testing.T) { eventImportsNothingOfOurs(t, all) })
	t.Run("nobody imports the top", func(t *testing.T) { nobodyImportsTheTop(t, all) })
	t.Run("the agent stays small", func(t *testing.T) { agentStaysSmall(t, all) })
	t.Run("every package says what it is for", func(t *testing.T) { everyPackageSaysWhatItIsFor(t, all) })
}

func rolesNeverImportEachOther(t *testing.T, all []listed) {
	t.Helper()
	roles := []string{"internal/server", "internal/agent", "internal/honeypot"}
	for _, p := range all {
		for _, role := range roles {
			if !below(p.ImportPath, role) {
				continue
			}
			for _, dep := range p.Deps {
				for _, other := range roles {
					if other != role && below(dep, other) {
						t.Errorf("%s imports %s: %s and %s are roles of their own", p.ImportPath, dep, role, other)
					}
				}
			}
		}
	}
}

func eventImportsNothingOfOurs(t *testing.T, all []listed) {
	t.Helper()
	for _, p := range all {
		if !below(p.ImportPath, "internal/event") {
			continue
		}
		for _, dep := range p.Imports {
			assert.False(t, strings.HasPrefix(dep, module), "%s imports %s", p.ImportPath, dep)
		}
	}
}

// Only these may know everything: the commands, the lab and its tests.
func nobodyImportsTheTop(t *testing.T, all []listed) {
	t.Helper()
	for _, p := range all {
		for _, dep := range p.Imports {
			top := below(dep, "cmd") || below(dep, "internal/cli") || below(dep, "internal/lab")
			may := below(p.ImportPath, "cmd") || below(p.ImportPath, "internal/cli") || below(p.ImportPath, "internal/lab") ||
				below(p.ImportPath, "internal/e2e")
			assert.False(t, top && !may, "%s imports %s", p.ImportPath, dep)
		}
	}
}

// The agent runs on hosts that are to be protected, not burdened.
func agentStaysSmall(t *testing.T, all []listed) {
	t.Helper()
	forbidden := []string{
		"github.com/moby/", "github.com/docker/", "github.com/nats-io/nats-server", "modernc.org/sqlite",
		"github.com/pressly/goose", "github.com/jackc/pgx", "database/sql",
		module + "/internal/server", module + "/internal/honeypot", module + "/internal/store", module + "/internal/lab",
		module + "/internal/bus/broker",
	}
	i := slices.IndexFunc(all, func(p listed) bool { return below(p.ImportPath, "cmd/kokkuri-agent") })
	require.GreaterOrEqual(t, i, 0, "no cmd/kokkuri-agent")
	for _, dep := range all[i].Deps {
		i := slices.IndexFunc(forbidden, func(prefix string) bool { return strings.HasPrefix(dep, prefix) })
		if i >= 0 {
			t.Errorf("kokkuri-agent links %s", dep)
		}
	}
}

func everyPackageSaysWhatItIsFor(t *testing.T, all []listed) {
	t.Helper()
	for _, p := range all {
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		start := "Package " + p.Name + " "
		if p.Name == "main" {
			_, name, _ := strings.Cut(p.ImportPath, "/cmd/")
			start = strings.ToUpper(name[:1]) + name[1:] + " "
		}
		assert.True(t, strings.HasPrefix(p.Doc, start) || p.Name == "main" && strings.HasPrefix(p.Doc, "Command "),
			"%s: its doc begins %q, not %q", p.ImportPath, p.Doc, start)
	}
}
