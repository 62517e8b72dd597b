// Package containment holds the tests that attack pots from inside, as root: that nothing leads out of them, and that
// nothing that goes on in one harms the node or another pot.
package containment
