// Package decide turns offences into redirects, unless the owner's safety forbids it, and keeps the desired state of every host.
package decide
