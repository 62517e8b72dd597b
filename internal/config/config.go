// Package config turns one YAML file, the environment and flags into one typed, validated configuration.
//
// The structs of this file are the only source of truth. Every leaf has a key (server.bus.listen), an
// environment variable derived from it (KOKKURI_SERVER_BUS_LISTEN) and a flag (--bus-listen of
// `kokkuri server`, --server-bus-listen of `kokkuri up`). A flag wins over the environment, the
// environment over the file, the file over the default.
package config

import (
	"net/netip"
)

// Default places of the configuration files.
const (
	DefaultFile      = "/etc/kokkuri/kokkuri.yaml"
	DefaultAgentFile = "/etc/kokkuri/agent.yaml"
)

// EnvPrefix begins the name of every environment variable that is read.
const EnvPrefix = "KOKKURI_"

// Role is what a process of Kokkuri does.
type Role string

// Roles.
const (
	RoleServer   Role = "server"
	RoleHoneypot Role = "honeypot"
	RoleAgent    Role = "agent"
	RoleUp       Role = "up"
)

// Common is what all roles of a machine share.
type Common struct {
	Log      Log    `yaml:"log" embed:"" prefix:"log-"`
	StateDir string `yaml:"state_dir" default:"/var/lib/kokkuri" check:"abspath" help:"Folder for everything that must survive a restart; each role has its own folder in it." placeholder:"DIR"`
	Socket   string `yaml:"socket" default:"/run/kokkuri/server.sock" check:"abspath" help:"Socket where the server answers the commands." placeholder:"PATH"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" help:"Least level that is logged: ${enum}." placeholder:"LEVEL"`
	Format string `yaml:"format" default:"text" enum:"text,json" help:"How log lines are written: ${enum}." placeholder:"FORMAT"`
}

// Server is the configuration of the server role.
type Server struct {
	Common        `yaml:",inline"`
	ServerSection `yaml:"server"`
}

// Honeypot is the configuration of the honeypot role.
type Honeypot struct {
	Common          `yaml:",inline"`
	HoneypotSection `yaml:"honeypot"`
}

// Agent is the configuration of the agent role.
type Agent struct {
	Common       `yaml:",inline"`
	AgentSection `yaml:"agent"`
}

// Up is the whole file: what is common and a section for each role.
type Up struct {
	Common   `yaml:",inline"`
	Server   ServerSection   `yaml:"server" embed:"" prefix:"server-"`
	Honeypot HoneypotSection `yaml:"honeypot" embed:"" prefix:"honeypot-"`
	Agent    AgentSection    `yaml:"agent" embed:"" prefix:"agent-"`
}

// ServerConfig is the server's part of the file.
func (u Up) ServerConfig() Server { return Server{Common: u.Common, ServerSection: u.Server} }

// HoneypotConfig is the node's part of the file.
func (u Up) HoneypotConfig() Honeypot { return Honeypot{Common: u.Common, HoneypotSection: u.Honeypot} }

// AgentConfig is the agent's part of the file.
func (u Up) AgentConfig() Agent { return Agent{Common: u.Common, AgentSection: u.Agent} }

// ServerSection is the section `server`.
type ServerSection struct {
	Bus        Bus            `yaml:"bus" embed:"" prefix:"bus-"`
	Syslog     Syslog         `yaml:"syslog" embed:"" prefix:"syslog-"`
	Files      []FileSource   `yaml:"files" help:"Log files that are written on the server: PATTERN, or PATTERN=HOST where all lines are of one host. %HOST%, %Y, %m and %d stand for host name and date; * ? [] match names." placeholder:"PATTERN[=HOST]"`
	HTTP       HTTP           `yaml:"http" embed:"" prefix:"http-"`
	Rules      string         `yaml:"rules" check:"path" help:"Rules file; empty: the built-in rules." placeholder:"FILE"`
	DryRun     bool           `yaml:"dry_run" negatable:"" help:"Decide and record, but redirect nobody."`
	Breaker    Breaker        `yaml:"breaker" embed:"" prefix:"breaker-"`
	ExemptDays int            `yaml:"exempt_days" default:"30" min:"0" max:"3650" help:"A source that logged in to a host before its first failure within so many days is not redirected by a rule; 0: no such exemption." placeholder:"DAYS"`
	KeepDays   int            `yaml:"keep_days" default:"90" min:"1" max:"3650" help:"How long offences, redirects and sessions that have ended are kept." placeholder:"DAYS"`
	Allow      []netip.Prefix `yaml:"allow" help:"Networks that are never redirected." placeholder:"CIDR"`
	Personas   string         `yaml:"personas" default:"/etc/kokkuri/personas" check:"abspath" help:"Folder of personas written by hand: NAME.yaml. One that is named like a host is that host's." placeholder:"DIR"`
	Hosts      []HostInfo     `yaml:"hosts" kong:"-"`
}

// Bus is where agents and nodes connect.
type Bus struct {
	Listen    netip.AddrPort `yaml:"listen" default:"127.0.0.1:12666" help:"Address where agents and nodes connect; [::]:12666 for all of the machine's." placeholder:"ADDR:PORT"`
	Names     []string       `yaml:"names" check:"dnsname" help:"Further names and addresses of the server, for its certificate." placeholder:"NAME"`
	LogBudget Size           `yaml:"log_budget" default:"1GiB" min:"16MiB" help:"Disk space for raw log lines; the oldest go first." placeholder:"SIZE"`
}

// Syslog is where log lines are taken from syslog daemons.
type Syslog struct {
	ListenTCP []netip.AddrPort `yaml:"listen_tcp" default:"127.0.0.1:10514" help:"Addresses for syslog over TCP; none: not at all." placeholder:"ADDR:PORT"`
	ListenUDP []netip.AddrPort `yaml:"listen_udp" default:"127.0.0.1:10514" help:"Addresses for syslog over UDP, which proves nothing; none: not at all." placeholder:"ADDR:PORT"`
	ListenTLS []netip.AddrPort `yaml:"listen_tls" default:"127.0.0.1:10515" help:"Addresses for syslog over TLS with a client certificate of this server; none: not at all." placeholder:"ADDR:PORT"`
	Relays    []string         `yaml:"relays" check:"relay" help:"Log servers that forward for others, by network (TCP) or by the name in their certificate (TLS): of their lines the HOSTNAME field says whose they are." placeholder:"CIDR|NAME"`
	TrustUDP  []netip.Prefix   `yaml:"trust_udp" help:"Networks whose UDP lines may cause redirects: where nobody else can send from these addresses." placeholder:"CIDR"`
}

// HTTP is how the logs of web servers are read.
type HTTP struct {
	Logins         []HTTPLogin    `yaml:"logins" kong:"-"`
	ShippedLogins  bool           `yaml:"shipped_logins" default:"true" negatable:"" help:"Know the login forms of widespread software, beside those of server.http.logins."`
	Proxies        []netip.Prefix `yaml:"proxies" help:"Networks of the reverse proxies in front of web servers: what they say of their client is believed, and they are no source." placeholder:"CIDR"`
	ForwardedField int            `yaml:"forwarded_field" default:"3" min:"1" max:"16" help:"Which quoted field of an access log's line, after the request, is X-Forwarded-For; 3 in nginx's format main." placeholder:"N"`
}

// HTTPLogin is a place where a web application takes credentials.
type HTTPLogin struct {
	Path    string   `yaml:"path" check:"urlpath" required:"" help:"Path of the URL; with * at its beginning or end it is the end or the beginning of one."`
	Methods []string `yaml:"methods" check:"httpmethod" help:"Methods of the requests; empty: POST."`
	Failed  []int    `yaml:"failed" min:"100" max:"599" help:"Statuses of a failed login; empty: 401 and 403."`
	OK      []int    `yaml:"ok" min:"100" max:"599" help:"Statuses of a successful login; empty: none tells."`
}

// Breaker stops redirecting where something must be wrong.
type Breaker struct {
	SourcesPerHour int `yaml:"sources_per_hour" default:"100" min:"0" help:"Stop redirecting for a host when more sources than this offended within an hour; 0: never." placeholder:"N"`
}

// HostInfo is what an operator tells of a host; hosts are otherwise known by their enrolment.
type HostInfo struct {
	Name      string       `yaml:"name" check:"name" required:"" help:"The host's name."`
	Aliases   []string     `yaml:"aliases" check:"dnsname" help:"Names by which the host calls itself in its log lines."`
	Addresses []netip.Addr `yaml:"addresses" help:"Addresses that the host's log lines come from."`
	Persona   string       `yaml:"persona" check:"path" help:"What the host's pots are to be: the name of a persona in server.personas, or a file."`
	Road      string       `yaml:"road" enum:"agent,syslog,file" help:"The road whose lines are evaluated; empty: the first that brings lines."`
}

// HoneypotSection is the section `honeypot`.
type HoneypotSection struct {
	Name      string       `yaml:"name" check:"name" help:"The node's name; empty: the machine's host name." placeholder:"NAME"`
	Server    []Address    `yaml:"server" default:"127.0.0.1:12666" help:"Addresses of the server's bus." placeholder:"HOST[:PORT]"`
	Token     Secret       `yaml:"token" help:"One-time enrolment token, used where the node has no certificate yet." placeholder:"TOKEN"`
	Advertise []netip.Addr `yaml:"advertise" help:"Addresses, IPv4 and IPv6, that hosts send redirected traffic to; empty: the machine's own." placeholder:"ADDR"`
	PortRange PortRange    `yaml:"port_range" default:"20000-29999" help:"TCP ports for endpoints; must not overlap net.ipv4.ip_local_port_range." placeholder:"FIRST-LAST"`
	Subnet    netip.Prefix `yaml:"subnet" default:"10.77.0.0/16" help:"Network of the pots, inside a namespace without uplink." placeholder:"CIDR"`
	Image     string       `yaml:"image" default:"kokkuri/pot" help:"Image of the pots." placeholder:"IMAGE"`
	Engine    string       `yaml:"engine" default:"unix:///var/run/docker.sock" check:"engine" help:"Docker Engine that runs the pots." placeholder:"URL"`
	PotTTL    Duration     `yaml:"pot_ttl" default:"24h" min:"1m" help:"How long a pot is kept after its attacker's last lease ended." placeholder:"DURATION"`
	Watch     string       `yaml:"watch" default:"auto" enum:"auto,ebpf,polling,off" help:"How programs in pots are seen: ${enum}; auto: by eBPF where the kernel has it, else by polling." placeholder:"HOW"`
	Overflow  string       `yaml:"overflow" default:"builtin" enum:"builtin,tarpit,drop" help:"What an attacker meets for whom a full node has no pot: ${enum}; the builtin front of SSH, where no guess is right, a server that takes its time, or a closed connection." placeholder:"WHAT"`
	Guesses   Range        `yaml:"guesses" default:"2-6" help:"How many distinct guesses are refused before one is accepted: for each attacker a random number of this range." placeholder:"LEAST-MOST"`
	SSH       SSH          `yaml:"ssh" embed:"" prefix:"ssh-"`
	Pool      Pool         `yaml:"pool" embed:"" prefix:"pool-"`
	Egress    Egress       `yaml:"egress" embed:"" prefix:"egress-"`
	Limits    Limits       `yaml:"limits" embed:"" prefix:"limits-"`
}

// Egress is what pots reach when they call out.
type Egress struct {
	Default      string         `yaml:"default" default:"sinkhole" enum:"none,sinkhole,record" help:"What a pot reaches whose rule does not say: ${enum}." placeholder:"POLICY"`
	Most         string         `yaml:"most" default:"sinkhole" enum:"none,sinkhole,record" help:"What rules may ask for at most: ${enum}; record lets the node fetch from the internet what attackers ask for." placeholder:"POLICY"`
	Forbid       []netip.Prefix `yaml:"forbid" help:"Networks that nothing is ever fetched from, beside private and reserved ones and the addresses of this machine, the server, its hosts and nodes." placeholder:"CIDR"`
	FetchSize    Size           `yaml:"fetch_size" default:"10MiB" min:"1KiB" help:"What is fetched of one file." placeholder:"SIZE"`
	PerMinute    int            `yaml:"per_minute" default:"5" min:"1" max:"60" help:"Requests of one attacker that are fetched within a minute." placeholder:"N"`
	AllPerMinute int            `yaml:"all_per_minute" default:"30" min:"1" max:"600" help:"Requests of all attackers that are fetched within a minute." placeholder:"N"`
}

// SSH is what attackers see of a pot's SSH server.
type SSH struct {
	Version    string   `yaml:"version" check:"sshversion" help:"What the server calls itself, as SSH-2.0-OpenSSH_9.2p1; empty: as the pot's own server does." placeholder:"SSH-2.0-…"`
	Methods    []string `yaml:"methods" default:"password,keyboard-interactive" enum:"password,keyboard-interactive" help:"Methods of logging in, beside public keys." placeholder:"METHOD"`
	FailDelay  Duration `yaml:"fail_delay" default:"2s" max:"30s" help:"About how long a wrong password takes." placeholder:"DURATION"`
	Front      string   `yaml:"front" default:"openssh" enum:"openssh,builtin,auto" help:"What speaks SSH with attackers: ${enum}; the system's own sshd, a library that costs less and is told from it, or that one above ssh.at_door." placeholder:"FRONT"`
	AtDoor     int      `yaml:"at_door" name:"at-door" default:"500" min:"1" max:"20000" help:"With front auto: how many connections at once OpenSSH speaks with." placeholder:"N"`
	DoorMemory Size     `yaml:"door_memory" name:"door-memory" default:"2GiB" min:"64MiB" help:"Memory of all sshd that speak with attackers together." placeholder:"SIZE"`
}

// Pool is how pots are kept ready.
type Pool struct {
	Warm       int      `yaml:"warm" default:"4" min:"0" max:"256" help:"Pots that wait, started and paused, for attackers to come." placeholder:"N"`
	KeepFree   Size     `yaml:"keep_free" default:"512MiB" help:"Memory of the machine that waiting pots leave free." placeholder:"SIZE"`
	PauseAfter Duration `yaml:"pause_after" default:"5m" min:"1s" help:"How long a pot without a session goes on running before it is paused." placeholder:"DURATION"`
	StopAfter  Duration `yaml:"stop_after" default:"1h" min:"1s" help:"How long a pot without a session stays in memory before it is stopped; its files stay." placeholder:"DURATION"`
}

// Limits bound what attackers can use up.
type Limits struct {
	Pots        int  `yaml:"pots" default:"64" min:"1" max:"4096" help:"Pots at the same time." placeholder:"N"`
	Sessions    int  `yaml:"sessions" default:"1024" min:"1" help:"Sessions at the same time." placeholder:"N"`
	Connections int  `yaml:"connections" default:"256" min:"1" help:"Connections of one attacker to one service of a host at the same time." placeholder:"N"`
	PotDisk     Size `yaml:"pot_disk" default:"1GiB" min:"16MiB" help:"What a pot may write; one that writes more is ended." placeholder:"SIZE"`
	Memory      Size `yaml:"memory" default:"256MiB" min:"32MiB" help:"Memory of one pot." placeholder:"SIZE"`
	PIDs        int  `yaml:"pids" name:"pids" default:"512" min:"16" max:"32768" help:"Processes and threads of one pot." placeholder:"N"`
	MilliCPUs   int  `yaml:"milli_cpus" name:"milli-cpus" default:"500" min:"50" help:"Processor time of one pot, in thousandths of a processor." placeholder:"N"`
	Recording   Size `yaml:"recording" default:"64MiB" min:"64KiB" help:"Recording of one session." placeholder:"SIZE"`
	File        Size `yaml:"file" default:"64MiB" min:"64KiB" help:"A file that comes with a session; of a larger one the start is kept." placeholder:"SIZE"`
	Attacker    Size `yaml:"attacker" default:"1GiB" min:"1MiB" help:"Recordings and files of one attacker." placeholder:"SIZE"`
	Recordings  Size `yaml:"recordings" default:"4GiB" min:"1MiB" help:"All recordings and files together; the oldest go first." placeholder:"SIZE"`
}

// AgentSection is the section `agent`.
type AgentSection struct {
	Name       string         `yaml:"name" check:"name" help:"The host's name; empty: the name that it was enrolled with, else the machine's host name." placeholder:"NAME"`
	Server     []Address      `yaml:"server" default:"127.0.0.1:12666" help:"Addresses of the server's bus." placeholder:"HOST[:PORT]"`
	Token      Secret         `yaml:"token" help:"One-time enrolment token, used where the host has no certificate yet." placeholder:"TOKEN"`
	Files      []string       `yaml:"files" default:"/var/log/auth.log" check:"abspath" help:"Log files that are followed, where * ? [] match names; none: not at all (the host sends its log by syslog)." placeholder:"PATH"`
	Journal    JournalSource  `yaml:"journal" embed:"" prefix:"journal-"`
	Logs       []LogSource    `yaml:"logs" help:"Log files that are no syslog, with their format: PATH=FORMAT." placeholder:"PATH=FORMAT"`
	Discover   bool           `yaml:"discover" negatable:"" help:"Follow the logs of servers that lie where Debian puts them, beside those that are named."`
	Containers []LogContainer `yaml:"containers" help:"Docker containers whose log is followed, with its format: NAME=FORMAT." placeholder:"NAME=FORMAT"`
	Docker     string         `yaml:"docker_socket" name:"docker-socket" default:"/var/run/docker.sock" check:"abspath" help:"Socket of the Docker Engine that has the containers." placeholder:"PATH"`
	Redis      []RedisSource  `yaml:"redis" help:"Redis servers whose ACL LOG is read: HOST:PORT, or the path of a socket." placeholder:"ADDRESS"`
	Services   []ServicePort  `yaml:"services" default:"ssh:22" help:"Services that may be redirected: SERVICE:PORT." placeholder:"SERVICE[:PORT]"`
	Allow      []netip.Prefix `yaml:"allow" help:"Networks that are never redirected, whatever the server says." placeholder:"CIDR"`
	Endpoints  []netip.Prefix `yaml:"endpoints" help:"Networks where endpoints may be; empty: anywhere." placeholder:"CIDR"`
	Persona    AgentPersona   `yaml:"persona" embed:"" prefix:"persona-"`
	DockerUser bool           `yaml:"docker_user" negatable:"" help:"Where Docker's FORWARD policy would eat redirected traffic, add one marked rule to its chain DOCKER-USER."`
}

// AgentPersona is what pots may learn of the host, so as to look like it.
type AgentPersona struct {
	Disable   []string `yaml:"disable" enum:"all,hostname,os,kernel,time_zone,locale,motd,accounts,ssh,listening,machine,network,software" help:"What pots do not learn of this host: ${enum}." placeholder:"ITEM"`
	Addresses bool     `yaml:"addresses" negatable:"" help:"Let pots learn the addresses of this host."`
	HostKeys  bool     `yaml:"host_keys" negatable:"" help:"Give this host's SSH host keys to the nodes that hold its attackers, so that what stands in front of pots answers with them."`
}

// JournalSource is what of the systemd journal is followed.
type JournalSource struct {
	Follow      string   `yaml:"follow" default:"auto" enum:"auto,on,off" help:"Follow the systemd journal: ${enum}; auto: where it is there and none of agent.files is." placeholder:"WHEN"`
	Identifiers []string `yaml:"identifiers" default:"sshd,sshd-session,sshd-auth,dropbear,login,mariadbd,mysqld,mysql-server_auditing,postgres,redis-server,vsftpd,proftpd,pure-ftpd,nginx,apache2,postfix/smtpd,postfix/submission/smtpd,postfix/smtps/smtpd,dovecot" help:"Programs whose entries are sent, by the name that they give themselves; with neither these nor units, all." placeholder:"NAME"`
	Units       []string `yaml:"units" help:"Units whose entries are sent beside those." placeholder:"UNIT"`
	Directory   string   `yaml:"directory" check:"abspath" help:"Folder of the journal's files; empty: the system's." placeholder:"DIR"`
}
