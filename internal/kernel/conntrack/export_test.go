package conntrack

import "time"

// SetClock replaces the clock that receives are timed with.
func (s *Scanner) SetClock(clock func() (time.Time, time.Duration)) { s.clock = clock }

// FilterBreak is how long no filter is used after a slow one.
const FilterBreak = filterBreak

// MaxAttempts is how often a scan is begun.
const MaxAttempts = maxAttempts

// AppendRequest encodes a dump request.
func AppendRequest(family uint8, udp bool, seq, portID uint32) []byte {
	return appendRequest(nil, dump{family: family, udp: udp}, seq, portID)
}
