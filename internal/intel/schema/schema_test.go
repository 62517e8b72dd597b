package schema_test

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/schema"
	"github.com/kokkuri/kokkuri/internal/intel/schema/schematest"
)

var update = flag.Bool("update", false, "write the schema anew from the types of package event")

// fieldOf is the field of evidence that its kind fills in.
func fieldOf(k event.EvidenceKind) string {
	switch k { //nolint:exhaustive // the others name their field
	case event.EvidenceTruncated, event.EvidenceClosed, event.EvidenceOverflow:
		return "reason"
	case event.EvidenceMalformed:
		return "data"
	}
	return string(k)
}

// made is the schema as the types say it.
func made(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{ExpandedStruct: false, Anonymous: true, Mapper: mapped}
	here, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Chdir("../../..")) //nolint:usetesting // for a moment: comments are looked for by their package's path
	err = r.AddGoComments("github.com/kokkuri/kokkuri", "./internal/event", jsonschema.WithFullComment())
	require.NoError(t, os.Chdir(here)) //nolint:usetesting // as above
	require.NoError(t, err)
	type watched struct {
		Event    event.Event    `json:"event"`
		Session  event.Session  `json:"session"`
		Evidence event.Evidence `json:"evidence"`
	}
	all := r.Reflect(watched{})
	delete(all.Definitions, "watched")
	evidence := all.Definitions["Evidence"]
	kinds, _ := evidence.Properties.Get("kind")
	kinds.Enum = nil
	for _, k := range event.EvidenceKinds() {
		kinds.Enum = append(kinds.Enum, string(k))
		is := jsonschema.NewProperties()
		is.Set("kind", &jsonschema.Schema{Const: string(k)})
		evidence.AllOf = append(evidence.AllOf, &jsonschema.Schema{
			If: &jsonschema.Schema{Properties: is}, Then: &jsonschema.Schema{Required: []string{fieldOf(k)}},
		})
	}
	left := jsonschema.NewProperties()
	left.Set("session", &jsonschema.Schema{Ref: "#/$defs/Session"})
	left.Set("evidence", &jsonschema.Schema{Ref: "#/$defs/Evidence"})
	data, err := json.MarshalIndent(&jsonschema.Schema{
		Version: jsonschema.Version, Title: "Kokkuri: what it tells of attackers",
		Description: "A line of `kokkuri events tail --format json`: an event that was read from a log, or a piece of evidence with its session. What `sessions show --json` prints is a Session with its Evidence under \"left\".",
		AnyOf: []*jsonschema.Schema{
			{Ref: "#/$defs/Event"},
			{Type: "object", Properties: left, Required: []string{"session", "evidence"}, AdditionalProperties: jsonschema.FalseSchema},
		},
		Definitions: all.Definitions,
	}, "", "  ")
	require.NoError(t, err)
	return append(data, '\n')
}

// mapped is how types are encoded that encode themselves.
func mapped(t reflect.Type) *jsonschema.Schema {
	const bytesText = "Bytes that an attacker chose: printable text, a backslash doubled, every other byte as \\xNN."
	switch t {
	case reflect.TypeFor[event.Bytes]():
		return &jsonschema.Schema{Type: "string", Description: bytesText, Pattern: `^([^\\\x00-\x1f\x7f]|\\\\|\\x[0-9a-f]{2})*$`}
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix]():
		return &jsonschema.Schema{Type: "string", Description: "of IPv4 or IPv6; empty where it is not known"}
	}
	return nil
}

func TestTheSchemaIsOfTheTypes(t *testing.T) {
	want := made(t)
	if *update {
		require.NoError(t, os.WriteFile("kokkuri.schema.json", want, 0o644))
		return
	}
	assert.Equal(t, string(want), string(schema.Text()), "the types have changed: go test ./internal/intel/schema -update")
}

// Every kind, with every field of what it brings filled in, is as the schema says.
func TestEveryKindIsDescribed(t *testing.T) {
	s, err := schematest.Open("Evidence")
	require.NoError(t, err)
	for _, k := range event.EvidenceKinds() {
		e := event.Evidence{Session: "0123456789ab", Number: 1, At: time.Now(), Kind: k}
		require.Error(t, s.Check(e), "%s without what it names", k)
		v := reflect.ValueOf(&e).Elem()
		for i := range v.NumField() {
			if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name == fieldOf(k) {
				fill(v.Field(i))
			}
		}
		require.NoError(t, s.Check(e), k)
		data, err := json.Marshal(e)
		require.NoError(t, err)
		var again event.Evidence
		require.NoError(t, json.Unmarshal(data, &again))
	}
	require.Error(t, s.Check(map[string]any{"session": "a", "number": 1, "at": time.Now(), "kind": "closed", "reason": "x", "more": 1}), "nothing else is in it")
	require.Error(t, s.Check(event.Evidence{Kind: "other"}))
}

func TestLinesAreDescribed(t *testing.T) {
	s, err := schematest.Open("")
	require.NoError(t, err)
	var session event.Session
	fill(reflect.ValueOf(&session).Elem())
	e := event.Evidence{Session: "0123456789ab", Number: 1, At: time.Now(), Kind: event.EvidenceClosed, Reason: "idle"}
	require.NoError(t, s.Check(map[string]any{"session": session, "evidence": e}))
	var of event.Event
	fill(reflect.ValueOf(&of).Elem())
	require.NoError(t, s.Check(of))
	require.NoError(t, s.Check(event.Event{}))
	require.Error(t, s.Check(map[string]any{"session": session}))
}

// fill gives a value, and all that is in it, something that is not empty.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case event.Bytes:
		v.SetString("a\\b\x00\xff\u202e☃\"")
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 27, 1, 2, 3, 456, time.UTC)))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("2001:db8::1")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("192.0.2.1:22")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("203.0.113.66/32")))
		return
	}
	switch v.Kind() { //nolint:exhaustive // there are no others
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(7)
	}
}
