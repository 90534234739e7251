package natrules

import "fmt"

// struct xt_owner_match_info {u32 uid_min, uid_max, gid_min, gid_max; u8 match, invert}. A packet that came in by an interface has no
// socket here; an outer packet has that of the inner one (iptunnel_xmit keeps skb->sk, net/netfilter/xt_owner.c asks for it).
func xtOwner(i *info, _ bool) xtPart {
	const wantUID, wantGID, wantSocket, known = 1, 2, 4, 7 // XT_OWNER_*
	uids, gids := rangesOf(span{number{0, uint64(i.u32(0))}, number{0, uint64(i.u32(4))}}), rangesOf(span{number{0, uint64(i.u32(8))}, number{0, uint64(i.u32(12))}})
	match, invert := i.u8(16), i.u8(17)
	text := "-m owner"
	option := func(flag uint8, name string, low, high uint32) {
		switch {
		case match&flag == 0:
			return
		case flag == wantSocket:
			text += " " + bang(invert&flag != 0) + name
		case low == high:
			text += fmt.Sprintf(" %s%s %d", bang(invert&flag != 0), name, low)
		default:
			text += fmt.Sprintf(" %s%s %d-%d", bang(invert&flag != 0), name, low, high)
		}
	}
	option(wantSocket, "--socket-exists", 0, 0)
	option(wantUID, "--uid-owner", i.u32(0), i.u32(4))
	option(wantGID, "--gid-owner", i.u32(8), i.u32(12))
	return xtPart{text: text, step: matchStep(func(m *machine) truth {
		socket := m.socket()
		with := truthOf(match&invert&wantSocket == 0)
		if match&^known != 0 { // supplementary groups
			with = with.and(maybe)
		}
		if match&wantUID != 0 {
			with = with.and(invertIf(m.is(dimUID, uids), invert&wantUID != 0))
		}
		if match&wantGID != 0 {
			with = with.and(invertIf(m.is(dimGID, gids), invert&wantGID != 0))
		}
		without := truthOf((match^invert)&known == 0)
		if socket == maybe && with == without {
			return with
		}
		return socket.and(with).or(socket.not().and(without))
	})}
}

// socket says whether the packet belongs to a socket of this namespace.
func (m *machine) socket() truth {
	m.asked = true
	return m.packet.socket
}
