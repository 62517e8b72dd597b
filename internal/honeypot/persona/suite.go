package persona

import (
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Suites that pots are made of, by Debian's names for them. The first is what all pots are that nothing else is known of.
const (
	Bookworm = "bookworm" // Debian 12
	Bullseye = "bullseye" // Debian 11
)

// Suites are all of them.
func Suites() []string { return []string{Bookworm, Bullseye} }

// SuiteOf returns the suite that a system's pots are made of; exact says whether it is the system itself, not
// only the nearest there is.
func SuiteOf(os event.OSRelease) (suite string, exact bool) {
	major, _, _ := strings.Cut(os.VersionID, ".")
	version, _ := strconv.Atoi(major)
	switch os.ID {
	case "":
		return Bookworm, true // it is not known, so nothing is wrong
	case "debian":
		switch {
		case version == 12 || os.VersionCodename == Bookworm:
			return Bookworm, true
		case version == 11 || os.VersionCodename == Bullseye:
			return Bullseye, true
		case version > 0 && version < 11:
			return Bullseye, false
		}
	case "ubuntu": // 20.04 has the age of Debian 11, 22.04 is nearer to Debian 12
		if version > 0 && version < 22 {
			return Bullseye, false
		}
	}
	return Bookworm, false
}
