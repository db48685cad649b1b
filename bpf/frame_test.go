package bpf

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// frameOf is an Ethernet frame.
func frameOf(kind uint16, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 12), kind), body...)
}

// ip4 and ip6 are a packet with the first bytes of what it carries.
func ip4(protocol byte, fragment uint16, rest ...byte) []byte {
	p := []byte{0: 0x46, 9: protocol, 16: 192, 17: 0, 18: 2, 19: 7, 23: 0} // with options
	binary.BigEndian.PutUint16(p[6:], fragment)
	return append(p, rest...)
}

func ip6(next byte, rest ...byte) []byte {
	return append([]byte{0: 0x60, 6: next, 24: 0x20, 25: 1, 26: 0xd, 27: 0xb8, 39: 9}, rest...)
}

// TestFrames has every backend that attaches here tell where each frame of a packet socket goes: once at first, then counted.
func TestFrames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	ports := []byte{3, 0xe8, 0, 53, 0, 8, 0, 0}
	cases := []struct {
		frame []byte
		want  string
	}{
		{frameOf(0x0800, ip4(17, 0, ports...)...), "17 192.0.2.7:53"},
		{frameOf(0x0800, ip4(6, 0x2000, ports...)...), "6 192.0.2.7:53"},
		{frameOf(0x0800, ip4(6, 3, ports...)...), "6 192.0.2.7:0"},
		{frameOf(0x0800, ip4(1, 0, ports...)...), "1 192.0.2.7:0"},
		{frameOf(0x8100, append([]byte{0, 5, 0x86, 0xdd}, ip6(6, ports...)...)...), "6 [2001:db8::9]:53"},
		{frameOf(0x86dd, ip6(44, ports...)...), "44 [2001:db8::9]:0"},
		{frameOf(0x0800, 0x46, 0, 0), "0 {2048 1 lo}"}, // too short
		{frameOf(0x0800, ip6(6, ports...)[:39]...), "0 {2048 1 lo}"},
		{frameOf(0x0806, make([]byte, 28)...), "0 {2054 1 lo}"},
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend, Events: Events{Sends: true}})
			attachedOrSkip(t, err)
			defer c.Close()
			if slices.Contains(c.BlindSpots(), unseenSends) || slices.Contains(c.BlindSpots(), unseenFrames) {
				t.Fatal("blind to frames")
			}
			fd, cookie := openSocket(t, unix.AF_PACKET, unix.SOCK_RAW, 0)
			const more = 3
			want := map[string]string{} // how often, and bytes
			for _, one := range cases {
				for range 1 + more {
					if err := unix.Sendto(fd, one.frame, 0, &unix.SockaddrLinklayer{Ifindex: loopback}); err != nil {
						t.Fatal(err)
					}
				}
			}
			sent := map[string]int{}
			for _, one := range cases {
				sent[one.want] += len(one.frame)
				want[one.want] = fmt.Sprint(sent[one.want] * (1 + more))
			}
			got := map[string]int64{}
			tell := func(rec *Connect, bytes int64) {
				to := fmt.Sprint(rec.Protocol, " ")
				if p, ok := rec.Destination(); ok {
					to += fmt.Sprint(p)
				} else {
					to += addrPortOf(rec.Remote).String()
				}
				if p, ok := rec.Place(); !ok || p.Name != "lo" || rec.SocketFamily != unix.AF_PACKET || rec.FD != int32(fd) || rec.Key.Tgid == 0 {
					t.Errorf("record %+v", rec)
				}
				got[to] += bytes
			}
			firsts, rec := 0, Connect{}
			for c.ReadConnect(time.Now(), &rec) == nil {
				if rec.Via == ViaFrame && rec.Cookie == cookie {
					firsts++
					tell(&rec, rec.Bytes)
				}
			}
			if firsts != len(want) {
				t.Errorf("%d first frames, want %d", firsts, len(want))
			}
			if err := c.Sends(true, func(s *SendCount) {
				if s.Of.Via == ViaFrame && s.Of.Cookie == cookie {
					tell(&s.Of, s.Bytes)
				}
			}); err != nil {
				t.Fatal(err)
			}
			for to, bytes := range got {
				if fmt.Sprint(bytes) != want[to] {
					t.Errorf("to %s: %d bytes, want %s", to, bytes, want[to])
				}
				delete(want, to)
			}
			if len(want) > 0 {
				t.Errorf("not told: %v", want)
			}
		})
	}
}

// sendByRing sends one frame by a ring of pages that the socket shares with this process (PACKET_TX_RING).
func sendByRing(t *testing.T, fd int, frame []byte) {
	t.Helper()
	const size, header, offset = 4096, 32, 16 // struct tpacket_hdr, and the place of its fields
	request := &unix.TpacketReq{Block_size: size, Block_nr: 1, Frame_size: size, Frame_nr: 1}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, request); err != nil {
		t.Fatal(err)
	}
	ring, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ring)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: loopback}); err != nil {
		t.Fatal(err)
	}
	copy(ring[header:], frame)
	binary.NativeEndian.PutUint32(ring[8:], uint32(len(frame)))
	binary.NativeEndian.PutUint64(ring, unix.TP_STATUS_SEND_REQUEST)
	if err := unix.Sendto(fd, nil, 0, &unix.SockaddrLinklayer{Ifindex: loopback}); err != nil {
		t.Fatal(err)
	}
}

// TestRingFrames: what is sent by PACKET_TX_RING is told of, with device and protocol; the address is in a page that no program reads, and the
// blind spots say so.
func TestRingFrames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend, Events: Events{Sends: true}})
			attachedOrSkip(t, err)
			defer c.Close()
			if !slices.Contains(c.BlindSpots(), pagedFrames) {
				t.Error("it is not among the blind spots")
			}
			fd, cookie := openSocket(t, unix.AF_PACKET, unix.SOCK_RAW, 0)
			frame := frameOf(0x0800, ip4(17, 0, 3, 0xe8, 0, 53, 0, 8, 0, 0)...)
			sendByRing(t, fd, frame)
			var got []string
			var rec Connect
			for c.ReadConnect(time.Now(), &rec) == nil {
				if rec.Via == ViaFrame && rec.Cookie == cookie {
					to, _ := rec.Destination()
					got = append(got, fmt.Sprint(to, " ", rec.Bytes))
				}
			}
			if want := []string{fmt.Sprintf("{2048 1 lo} %d", len(frame))}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
