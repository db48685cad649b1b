/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fair shares of a ring that fills up: below its mark everybody sends what he likes; above it each has an allowance, so
 * that who floods fills the ring up to the mark and little more, and others still find room.
 */
#ifndef CONNTAPE_FAIR_H
#define CONNTAPE_FAIR_H

/* Marks, in bytes of fill, and what a process may send above them; the loader sets them. The mark is at three quarters. */
const volatile __u32 connects_mark = 6 << 20;
const volatile __u32 connects_allowance = 128 << 10; /* a sixteenth of what is above the mark */
const volatile __u32 processes_mark = 2 << 20;       /* half: above it arguments are cut, from three quarters on records are dropped */
const volatile __u32 processes_allowance = 128 << 10;

enum ring {
	RING_CONNECTS,
	RING_PROCESSES,
	RING_OUTCOMES,
	RING_EVENTS,
	RING_ANSWERS,
	RINGS = 8, /* a power of two */
};

/*
 * Who has an allowance: a process of one, the children of a parent of two, a uid in a cgroup of four, a login of eight. So
 * neither processes, nor cgroups, nor uids of a user namespace make more than one of somebody (docs/security.md).
 */
enum level {
	LEVEL_PROCESS,
	LEVEL_FAMILY,
	LEVEL_GROUP,
	LEVEL_LOGIN,
	LEVELS,
};

struct allowance_key {
	__u64 a, b; /* start and tgid, cgroup and uid, or login uid */
	__u32 level;
	__u32 ring;
};

struct allowance {
	__u64 round; /* in which bytes were sent */
	__u64 bytes;
};

/*
 * What each has sent above the mark in this round. Who sends above the mark inserts; nobody deletes. Full: the entry not
 * used for longest goes, and whoever it was begins with a whole allowance; what his kin sent still counts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct allowance_key);
	__type(value, struct allowance);
} allowances SEC(".maps");

/*
 * Where a key is put together: programs have no stack left for it. One a CPU and ring. A thread that is preempted here by
 * another that does the same may be charged with what that one sent; no more comes of it. Fixed entries.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RINGS);
	__type(key, __u32);
	__type(value, struct allowance_key);
} allowance_keys SEC(".maps");

/* A round ends when the fill was below the mark. */
__u64 rounds[RINGS];
__u32 was_below[RINGS];

/*
 * Who lost connects, a row a CPU (the loader sets how many), read through mmap(2) like counters. Who loses inserts, into one of
 * LOSER_PROBES places; the recorder clears what is no longer counted up. Full: the loss is in COUNT_LOST and nobody's.
 */
struct losers {
	struct loser of[LOSERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct losers);
} connect_losers SEC(".maps");

#define LOSER_PROBES 4

/* Whether there is no need for allowances. Costs a load and a comparison. */
static __always_inline bool below_mark(enum ring ring, __u64 fill, __u32 mark)
{
	if (fill >= mark)
		return false;
	if (!was_below[ring])
		was_below[ring] = 1;
	return true;
}

static __always_inline void enter_round(__u32 ring)
{
	ring &= RINGS - 1;
	if (was_below[ring]) {
		was_below[ring] = 0;
		__sync_fetch_and_add(&rounds[ring], 1);
	}
}

const struct allowance unused = {};

/* Takes size bytes off an allowance. False: there is not so much left. */
static __always_inline bool take(const struct allowance_key *key, __u32 size, __u64 most)
{
	struct allowance *have = bpf_map_lookup_elem(&allowances, key);
	__u64 round = rounds[key->ring & (RINGS - 1)];

	if (!have) {
		bpf_map_update_elem(&allowances, key, &unused, BPF_NOEXIST);
		have = bpf_map_lookup_elem(&allowances, key);
		if (!have)
			return false;
	}
	if (have->round != round) {
		have->round = round;
		have->bytes = 0;
	}
	if (have->bytes + size > most)
		return false;
	__sync_fetch_and_add(&have->bytes, size);
	return true;
}

static __always_inline struct task_struct *current_parent(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, real_parent);
}

/*
 * Take size bytes off the allowances of somebody on four levels: first_key and its process, then its parent, then its cgroup
 * and uid, and its login. They return the level that does not have them, or LEVELS. All is given by pointer: programs are
 * short of stack, and what is not at hand need not be kept there.
 */
static __always_inline struct allowance_key *first_key(__u32 ring, const struct process_key *process)
{
	struct allowance_key *key = bpf_map_lookup_elem(&allowance_keys, &ring);

	if (!key)
		return NULL;
	enter_round(ring);
	key->ring = ring;
	key->level = LEVEL_PROCESS;
	key->a = process->start;
	key->b = process->tgid;
	return key;
}

static __always_inline int take_kin(struct allowance_key *key, __u32 size, __u32 allowance, const __u64 *cgroup, const __u32 *uid,
				    const __u32 *loginuid)
{
	if (!take(key, size, 2 * (__u64)allowance))
		return LEVEL_FAMILY;
	key->level = LEVEL_GROUP;
	key->a = *cgroup;
	key->b = *uid;
	if (!take(key, size, 4 * (__u64)allowance))
		return LEVEL_GROUP;
	key->level = LEVEL_LOGIN;
	key->a = *loginuid != (__u32)-1 ? *loginuid : *uid;
	key->b = 0;
	return take(key, size, 8 * (__u64)allowance) ? LEVELS : LEVEL_LOGIN;
}

/* Whether a connect may be sent above the mark. A function of its own: it runs when somebody floods, and takes stack. */
static __noinline int take_connect(struct connect *c, __u32 size)
{
	struct allowance_key *key = first_key(RING_CONNECTS, &c->process);
	struct task_struct *parent;

	if (!key)
		return LEVELS;
	if (!take(key, size, connects_allowance))
		return LEVEL_PROCESS;
	parent = current_parent();
	key->level = LEVEL_FAMILY;
	key->b = 0;
	bpf_core_read(&key->a, sizeof(key->a), &parent->start_boottime);
	bpf_core_read(&key->b, sizeof(__u32), &parent->tgid); /* little-endian, like all that we run on */
	return take_kin(key, size, connects_allowance, &c->cgroup_id, &c->uid, &c->loginuid);
}

/* Notes who lost a connect: the process, or where all its kin are at their end, its parent for all children. */
static __noinline int lose_connect(struct connect *c, int level)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct losers *row = bpf_map_lookup_elem(&connect_losers, &cpu);
	struct task_struct *parent = current_parent();
	bool children = level != LEVEL_PROCESS;
	__u64 start = children ? BPF_CORE_READ(parent, start_boottime) : c->process.start;
	__u32 tgid = children ? BPF_CORE_READ(parent, tgid) : c->process.tgid;
	int i;

	if (!row)
		return 0;
	for (i = 0; i < LOSER_PROBES; i++) {
		struct loser *l = &row->of[(((tgid * 0x9e3779b1) >> 16) + i) & (LOSERS - 1)];

		if (!l->n) {
			l->start = start;
			l->tgid = tgid;
			bpf_core_read(&l->parent_start, sizeof(l->parent_start), &parent->start_boottime);
			bpf_core_read(&l->parent_tgid, sizeof(l->parent_tgid), &parent->tgid);
			l->uid = c->uid;
			l->children = children;
			l->first = c->boot_time;
			__builtin_memcpy(l->comm, c->comm, sizeof(l->comm));
		} else if (l->start != start || l->tgid != tgid || l->children != children) {
			continue;
		}
		l->last = c->boot_time;
		l->n++;
		return 0;
	}
	return 0;
}

#endif
