package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/persona"
)

type (
	personasCmd struct {
		Ls       personasLsCmd       `cmd:"" default:"withargs" help:"List what was learnt of hosts and what was written by hand."`
		Show     personasShowCmd     `cmd:"" help:"Show one."`
		Validate personasValidateCmd `cmd:"" help:"Check a persona that was written by hand, offline."`
		Export   personasExportCmd   `cmd:"" help:"Print one as YAML, without what tells whose host it is."`
		Assign   personasAssignCmd   `cmd:"" help:"Say what the pots of a host are to be."`
	}
	personasLsCmd   struct{ client }
	personasShowCmd struct {
		nameArg

		Learnt bool `help:"What the host's agent learnt, whatever was written."`
	}
	personasValidateCmd struct {
		output

		File string `arg:"" help:"A persona in YAML."`
	}
	personasExportCmd struct {
		nameArg

		Learnt   bool `help:"What the host's agent learnt, whatever was written."`
		Complete bool `help:"All of it: names, addresses, people's accounts and texts too."`
	}
	personasAssignCmd struct {
		client

		Host    string `arg:"" help:"The host's name."`
		Persona string `arg:"" optional:"" help:"The name of a persona in the server's folder of personas."`
		None    bool   `help:"Take back what was assigned."`
	}
)

func personaView() view[api.Persona] {
	return view[api.Persona]{
		path:    api.PathPersonas,
		headers: []string{"NAME", "ORIGIN", "SYSTEM", "SSH", "CHANGED", "HOSTS"},
		empty:   "No persona is known: agents tell what their hosts are like, and personas can be written by hand (docs/persona.md).",
		row: func(a *app, p api.Persona) []cell {
			hosts := plain(joined(p.Hosts))
			if p.Error != "" {
				hosts = cell{"can't be used", red}
			}
			return []cell{
				plain(p.Name), plain(string(p.Origin)), plain(p.Persona.OS.PrettyName), plain(strings.TrimPrefix(p.Persona.SSH.Identification, "SSH-2.0-")),
				plain(a.ago(p.ChangedAt)), hosts,
			}
		},
		fields: personaFields,
		more: func(a *app, p api.Persona) error {
			if p.Error == "" {
				return nil
			}
			return a.printf("%s\n", safe.Text(p.Error))
		},
	}
}

func personaFields(a *app, p api.Persona) []field {
	v := p.Persona
	kernel := strings.TrimSpace(strings.Join([]string{v.Kernel.Name, v.Kernel.Release, v.Kernel.Version, v.Kernel.Machine}, " "))
	out := []field{
		{"name", p.Name},
		{"origin", string(p.Origin)},
		{"file", p.File},
		{"hosts", joined(p.Hosts)},
		{"changed", a.stamp(p.ChangedAt)},
		{"host name", strings.Trim(v.Hostname+"."+v.Domain, ".")},
		{"system", v.OS.PrettyName},
		{"kernel", kernel},
		{"time zone", v.TimeZone},
		{"locale", v.Locale},
		{"accounts", strconv.Itoa(len(v.Accounts))},
		{"ssh", v.SSH.Identification},
		{"ssh host keys", joined(hostKeyNames(v.SSH.HostKeys))},
		{"ssh settings", strconv.Itoa(len(v.SSH.Settings))},
		{"listening", joined(listeningNames(v.Listening))},
		{"processors", strings.TrimSpace(fmt.Sprintf("%d %s", v.Machine.CPUs, v.Machine.CPUModel))},
		{"memory", bytes(v.Machine.Memory)},
		{"virtualisation", v.Machine.Virtualisation},
		{"interface", v.Network.Interface},
	}
	for _, s := range v.Software {
		out = append(out, field{"software", s.Product + " " + s.Version})
	}
	return out
}

func hostKeyNames(list []event.HostKeyKind) []string {
	out := make([]string, len(list))
	for i, k := range list {
		out[i] = fmt.Sprintf("%s %d", k.Type, k.Bits)
	}
	return out
}

func listeningNames(list []event.Listening) []string {
	out := make([]string, len(list))
	for i, l := range list {
		out[i] = strings.TrimSuffix(fmt.Sprintf("%d/%s", l.Port, l.Service), "/")
	}
	return out
}

func (c *personasLsCmd) Run(ctx context.Context, a *app) error {
	return personaView().list(ctx, a, c.client, api.Filter{})
}

func (c *personasShowCmd) Run(ctx context.Context, a *app) error {
	name := c.Name
	v := personaView()
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	p, err := server.Persona(ctx, name, c.Learnt)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(p)
	}
	if err := a.fields(v.fields(a, p)); err != nil {
		return err
	}
	return v.more(a, p)
}

func (c *personasValidateCmd) Run(_ context.Context, a *app) error {
	p, err := persona.Load(c.File)
	if err != nil {
		return &usageError{text: err.Error()}
	}
	if a.wantsJSON(c.output) {
		return a.json(p)
	}
	return a.printf("%s: persona %s is fine.\n", safe.Text(c.File), safe.Text(p.Name))
}

func (c *personasExportCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	p, err := server.Persona(ctx, c.Name, c.Learnt)
	if err != nil {
		return err
	}
	if p.Error != "" {
		return &api.Error{Message: "persona " + p.Name + ": " + p.Error}
	}
	out := p.Persona
	if !c.Complete {
		out = persona.Shareable(out)
	}
	if a.wantsJSON(c.output) {
		return a.json(out)
	}
	return a.printf("%s", persona.Format(out))
}

func (c *personasAssignCmd) Run(ctx context.Context, a *app) error {
	if c.None == (c.Persona != "") {
		return &usageError{text: "neither a persona nor --none is given, or both", hint: "kokkuri personas assign HOST NAME, or kokkuri personas assign HOST --none"}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	p, err := server.AssignPersona(ctx, c.Host, c.Persona)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(p)
	}
	what := "the one that its agent learns"
	if p.Origin == event.PersonaWritten {
		what = p.Name + " (" + p.File + ")"
	}
	return a.printf("New pots of %s have the persona %s; those that attackers have already stay as they are.\n", safe.Text(c.Host), safe.Text(what))
}
