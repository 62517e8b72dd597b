// Package tail follows log files line by line, across rotation, truncation and restarts, with a cursor that moves only
// when the lines were taken.
//
// A [Follower] follows one log: a path that may have date parts (%Y %y %m %d %H %j), so that it stands for another file
// each day. A [Set] follows the same log of many hosts: a pattern with one %HOST% in it.
//
// What is read is handed on at once, as whatever complete lines are there. Before a batch is handed on its boundaries are
// written into the cursor file, so that after a crash the very same batch comes again under the same ID and the taker
// can drop it. The cursor file is a journal that a crash can't leave without a whole entry; it is not flushed: it survives
// a killed process, and a power loss as far as the file system does.
//
// What a file holds already when it is seen for the first time is not handed on; what appears later is, from its beginning. A
// file that was rotated away before its log was ever seen is not looked for.
//
// A line is handed on when its end was seen: half a line may hold half an address. Only the last line of a file that will get
// no more, since it was rotated away, got a successor and stayed as it was for a while, is handed on without one.
//
// A file that was rotated and compressed (.gz) while nobody looked is read on where the cursor stood in it.
package tail
