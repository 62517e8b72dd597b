package names

import "strings"

// topLevel are the generic top-level domains that are in use enough to be expected; countries have two letters.
func topLevel() string {
	return " com net org info biz edu gov mil int arpa name pro aero coop museum jobs mobi travel tel asia cat post xxx " +
		"app dev page cloud online site website space store shop tech top xyz club live life link fun icu vip win work world " +
		"today group team email host hosting systems network solutions services support digital media agency software " +
		"download stream trade science party review date men loan racing accountant faith cricket bid click ninja rocks " +
		"guru zone city company center academy studio design blog art wiki io ai google amazon microsoft one run sh zip mov " +
		"monster buzz cyou cfd sbs quest lol pics beauty hair skin makeup rest bar uno ltd llc inc "
}

// secondLevel are labels below a country's domain that are not somebody's own.
func secondLevel() string { return " co com net org gov edu ac ne or go gob in " }

// Registered splits a name: its registrable domain, and the label that names it; ok is false where the name
// is none that could be registered.
func Registered(name string) (domain, label string, ok bool) {
	labels := strings.Split(name, ".")
	n := len(labels)
	if n < 2 {
		return "", "", false
	}
	top := labels[n-1]
	if len(top) == 2 && !letters(top) || len(top) != 2 && !strings.Contains(topLevel(), " "+top+" ") {
		return "", "", false
	}
	at := n - 2
	if n > 2 && len(top) == 2 && strings.Contains(secondLevel(), " "+labels[at]+" ") {
		at--
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return "", "", false
		}
	}
	return strings.Join(labels[at:], "."), labels[at], true
}

func letters(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return true
}

// Nonsense reports whether a label looks like keys struck at random, as programs ask for that want to know whether
// somebody answers every name.
func Nonsense(label string) bool {
	if strings.HasPrefix(label, "xn--") || len(label) < 8 {
		return false
	}
	vowels, run, longest, changes, digits, alpha := 0, 0, 0, 0, 0, 0
	for i := range len(label) {
		c := label[i]
		digit := c >= '0' && c <= '9'
		switch {
		case strings.IndexByte("aeiouy", c) >= 0:
			vowels, run, alpha = vowels+1, 0, alpha+1
		case c >= 'a' && c <= 'z':
			run, alpha = run+1, alpha+1
			longest = max(longest, run)
		default:
			run = 0
		}
		if digit {
			digits++
		}
		if i > 0 && digit != (label[i-1] >= '0' && label[i-1] <= '9') {
			changes++
		}
	}
	switch {
	case longest >= 6, alpha >= 8 && vowels*6 < alpha:
		return true
	case changes >= 5 && digits >= 3:
		return true
	}
	return len(label) > 24 && digits > 4
}
