/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames that are sent through packet sockets: where each goes is in the frame itself. They are told of and counted as sends are (send.h).
 *
 * The kernel sends such a frame in the thread that asks for it, by a function of its own since 6.4. Before, and where no program can be at
 * that, one is at the queue of devices, which runs for every packet of the host: so it is attached only while a packet socket is open.
 */
#ifndef CONNTAPE_FRAME_H
#define CONNTAPE_FRAME_H

#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

#define IPPROTO_DCCP 33
#define IPPROTO_SCTP 132

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len, data_len;
	__be16 protocol;
	unsigned char *data;
};

struct net_device___frame {
	unsigned short type; /* ARPHRD_ETHER and its kin */
	unsigned short hard_header_len;
};

struct netdev_adjacent {
	struct net_device *dev;
	struct list_head list;
};

struct net_device___uppers {
	struct {
		struct list_head upper;
	} adj_list;
};

#pragma clang attribute pop

/*
 * The packet that each processor saw last. A device that stands on another one (VLAN, bond, bridge) hands the same packet down, which is seen
 * again there before anything else is sent on that processor. Fixed entries.
 */
struct queued {
	struct sk_buff *skb;
	struct net_device *dev;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct queued);
} last_queued SEC(".maps");

/* Whether a device stands on another one: of many, the first four are looked at. */
static __always_inline bool stands_on(struct net_device *upper, struct net_device *dev)
{
	struct list_head *head = __builtin_preserve_access_index(&((struct net_device___uppers *)dev)->adj_list.upper);
	struct list_head *at = BPF_CORE_READ((struct net_device___uppers *)dev, adj_list.upper.next);

	for (int i = 0; i < 4 && at && at != head; i++, at = BPF_CORE_READ(at, next)) {
		struct netdev_adjacent *a = (void *)at - bpf_core_field_offset(struct netdev_adjacent, list);

		if (BPF_CORE_READ(a, dev) == upper)
			return true;
	}
	return false;
}

static __always_inline bool is_handed_down(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct queued *last;
	__u32 zero = 0;
	bool again;

	last = bpf_map_lookup_elem(&last_queued, &zero);

	if (!last)
		return false;
	again = last->skb == skb && last->dev != dev && stands_on(last->dev, dev);
	last->skb = skb;
	last->dev = dev;
	return again;
}

static __always_inline bool read_frame(struct sk_buff *skb, void *to, __u32 at, const __u32 size)
{
	return at + size <= BPF_CORE_READ(skb, len) - BPF_CORE_READ(skb, data_len) && !bpf_probe_read_kernel(to, size, BPF_CORE_READ(skb, data) + at);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

/* Reads address, protocol and port of an IP packet that begins at a place in the frame. False: it is none. */
static __always_inline bool read_ip_frame(struct sk_buff *skb, __u32 at, struct send_key *key)
{
	union {
		struct {
			__u8 version, tos;
			__be16 length, id, fragment;
			__u8 ttl, protocol;
			__be16 sum;
			__u32 from, to;
		} v4;
		struct {
			__u8 version, flow[3];
			__be16 length;
			__u8 next, hops;
			__u32 from[4], to[4];
		} v6;
	} ip;
	__be16 ports[2];
	bool first = true;

	if (!read_frame(skb, &ip.v4, at, sizeof(ip.v4)))
		return false;
	if (ip.v4.version >> 4 == 4) {
		key->family = AF_INET;
		key->protocol = ip.v4.protocol;
		key->address[0] = ip.v4.to;
		first = !(ip.v4.fragment & bpf_htons(0x1fff));
		at += (ip.v4.version & 15) * 4;
	} else {
		if (ip.v4.version >> 4 != 6 || !read_frame(skb, &ip.v6, at, sizeof(ip.v6)))
			return false;
		key->family = AF_INET6;
		key->protocol = ip.v6.next;
		__builtin_memcpy(key->address, ip.v6.to, sizeof(key->address));
		at += sizeof(ip.v6);
	}
	if (first && has_ports(key->protocol) && read_frame(skb, ports, at, sizeof(ports)))
		key->port = ports[1];
	return true;
}

/* Where a frame goes: to an IP address, or else to a device, with the protocol that it says it is of. */
static __always_inline void read_destination(struct sk_buff *skb, struct send_key *key)
{
	struct net_device___frame *dev = (struct net_device___frame *)BPF_CORE_READ(skb, dev);
	__u16 type = BPF_CORE_READ(dev, type), ether = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	__u32 at = 0;
	__be16 word;

	if (type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK) {
		at = 12;
		for (int i = 0; i < 3; i++) {
			if (!read_frame(skb, &word, at, sizeof(word)))
				break;
			ether = bpf_ntohs(word);
			at += 2;
			if (ether != ETH_P_8021Q && ether != ETH_P_8021AD)
				break;
			at += 2;
		}
		if ((ether == ETH_P_IP || ether == ETH_P_IPV6) && read_ip_frame(skb, at, key))
			return;
	} else if (!BPF_CORE_READ(dev, hard_header_len) && read_ip_frame(skb, 0, key)) {
		return;
	}
	key->family = AF_PACKET;
	key->address[0] = BPF_CORE_READ(skb, dev, ifindex);
	key->port = ether;
}

static __always_inline void write_device(__u8 *to, __u16 ether, struct net_device *dev)
{
	struct place p = { .family = AF_PACKET, .queue = ether, .ifindex = BPF_CORE_READ(dev, ifindex) };

	bpf_core_read_str(p.name, sizeof(p.name), &dev->name);
	__builtin_memcpy(to, &p, sizeof(p));
}

static __always_inline int frame_sent(struct sk_buff *skb)
{
	struct send_key key = { .process = current_process(), .generation = send_generation };
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct sock *sk = BPF_CORE_READ(skb, sk);
	__u64 cookie = made_cookie(sk); /* the helper that makes one takes no socket of a packet */
	__u32 bytes = BPF_CORE_READ(skb, len);
	struct send s, *known;
	struct regs regs;

	key.cookie = cookie ? cookie : (__u64)sk;
	read_destination(skb, &key);
	known = bpf_map_lookup_elem(&sends, &key);
	if (known) {
		count_send(&known->n, bytes);
		return 0;
	}
	__builtin_memset(&s, 0, sizeof(s));
	begin_task(&s.c, &regs);
	s.bytes = bytes;
	if (is_send(&regs))
		s.c.fd = regs.arg[0];
	begin_kind(&s.c, sk, BPF_CORE_READ(sk, sk_type), false);
	s.c.protocol = key.protocol;
	s.c.via = VIA_FRAME;
	s.c.cookie = cookie;
	write_device(s.local, 0, dev);
	s.c.local_len = sizeof(struct place);
	if (key.family == AF_PACKET) {
		write_device(s.remote, key.port, dev);
		s.c.remote_len = sizeof(struct place);
	} else {
		write_remote(&s, &key);
	}
	s.c.addrlen = 0;
	first_send(&key, &s, key.port, false);
	return 0;
}

/* include/trace/events/net.h: net_dev_queue(struct sk_buff *) */
SEC("tp_btf/net_dev_queue")
int frame_queued(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	struct sock *sk = skb->sk;

	if (!sk || sk->__sk_common.skc_family != AF_PACKET || is_handed_down(skb))
		return 0;
	return frame_sent(skb);
}

/* net/packet/af_packet.c: static int packet_xmit(const struct packet_sock *, struct sk_buff *) */
SEC("fentry/packet_xmit")
int fentry_frame(__u64 *ctx)
{
	return frame_sent((struct sk_buff *)ctx[1]);
}

SEC("kprobe/packet_xmit")
int kprobe_frame(struct kprobe_regs *ctx)
{
	return frame_sent((struct sk_buff *)PARM2(ctx));
}

/*
 * net/core/dev.c: int __dev_direct_xmit(struct sk_buff *, u16 queue_id), before 5.11 dev_direct_xmit. It sends past the queue of a device, for
 * packet and XDP sockets. It is not attached where packet_xmit has a program, which tells of these frames, too.
 */
SEC("kprobe/__dev_direct_xmit")
int kprobe_direct(struct kprobe_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PARM1(ctx);

	if (BPF_CORE_READ(skb, sk, __sk_common.skc_family) != AF_PACKET)
		return 0;
	return frame_sent(skb);
}

#endif
