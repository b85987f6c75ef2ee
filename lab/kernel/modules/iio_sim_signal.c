// SPDX-License-Identifier: GPL-2.0
/*
 * iio_sim: what flows through a converter, when, and what gets lost
 *
 * A converter counts its sample sets from the moment its buffer is enabled. A
 * transfer is a piece of a byte stream of sample sets: one that ends within a
 * set is continued by the next transfer.
 */
#include <linux/fixp-arith.h>
#include <linux/iio/events.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/unaligned.h>

#include "iio_sim.h"

static bool sparse;
module_param(sparse, bool, 0644);
MODULE_PARM_DESC(sparse, "write and check only the first sample set in each 4 KiB, for benchmarks (default N)");

/* Transfers are held up to keep the rate in steps of about this size. */
#define SIM_PACE_BYTES	SZ_64K

/* What the converter's FIFO bridges when it has to wait for a transfer. */
#define SIM_FIFO_NS	(20 * NSEC_PER_USEC)

#define SINE_BITS	10
#define SINE_SIZE	BIT(SINE_BITS)

static s16 sine[SINE_SIZE];

static struct sim_conv *to_sim_conv(struct sim_dma_chan *dc)
{
	return container_of(dc, struct sim_conv, dma);
}

void sim_signal_init(void)
{
	/* fixp_sin32_rad() interpolates between degrees: give it enough steps */
	const u32 turn = 180 * SINE_SIZE;
	u32 i;

	for (i = 0; i < SINE_SIZE; i++)
		sine[i] = fixp_sin32_rad(i * 180, turn) >> 16;
}

/* ---- settings -------------------------------------------------------- */

/* Also to be called when the rate has changed. */
void sim_conv_set_sine(struct sim_conv *conv, u32 hz)
{
	conv->sine_hz = hz;
	conv->sine_step = div_u64((u64)hz << 32, conv->rate);
}

void sim_conv_set_gain(struct sim_conv *conv, unsigned int c, int gain)
{
	s64 amplitude = 1LL << 31;
	int db;

	/* 10^(-1/20) = 0.89125, in 1/65536 */
	for (db = gain; db < conv->info->gain[2]; db++)
		amplitude = amplitude * 58409 >> 16;

	conv->gain[c] = gain;
	conv->amplitude[c] = amplitude >> 16;
}

/**
 * sim_conv_set_layout() - place the enabled channels in a sample set
 * @conv: the converter, buffer off
 * @mask: channels to include
 * @timestamp: include the timestamp, which @mask never has
 *
 * Natural alignment of every element, and of the set to its largest one, as the
 * IIO core computes it (iio_compute_scan_bytes()).
 */
void sim_conv_set_layout(struct sim_conv *conv, const unsigned long *mask,
			 bool timestamp)
{
	const struct iio_chan_spec *ch = conv->info->channels;
	unsigned int offset = 0, largest = 1;
	int i;

	conv->elements = 0;
	conv->ts_offset = -1;
	conv->word_mask = 0;
	for (i = 0; i < conv->info->num_channels; i++, ch++) {
		unsigned int size = ch->scan_type.storagebits / 8;

		if (!(ch->type == IIO_TIMESTAMP ? timestamp :
						  test_bit(ch->scan_index, mask)))
			continue;
		offset = ALIGN(offset, size);
		if (ch->type == IIO_TIMESTAMP) {
			conv->ts_offset = offset;
		} else {
			conv->element[conv->elements].chan = ch;
			conv->element[conv->elements].offset = offset;
			conv->elements++;
			conv->word_mask |= GENMASK_ULL(ch->scan_type.realbits - 1, 0)
					   << (conv->info->lane_bits * ch->channel);
		}
		offset += size;
		largest = max(largest, size);
	}
	conv->set_bytes = ALIGN(offset, largest);
	conv->packed = conv->info->lane_bits == 16 && conv->elements == 4;
}

/* Let the threads at both ends of the wire look at their conditions again. */
void sim_conv_kick(struct sim_conv *conv)
{
	wake_up(&conv->dma.work);
	if (conv->loop) {
		wake_up(&conv->loop->from->dma.work);
		wake_up(&conv->loop->to->dma.work);
	}
}

/* The buffer is about to be enabled, no transfer has been issued yet. */
void sim_conv_start(struct sim_conv *conv)
{
	conv->started = false;
	conv->ended = 0;
	conv->n = 0;
	conv->unpaced = 0;
	conv->expected = 0;
	conv->last_valid = false;
	conv->part_len = 0;
	if (conv->loop && conv->loop->to == conv)
		/* what the DAC has sent so far is not for us */
		conv->loop->tail = smp_load_acquire(&conv->loop->head);
	WRITE_ONCE(conv->enabled, true);
}

/* The buffer has been disabled, all transfers are terminated. */
void sim_conv_stop(struct sim_conv *conv)
{
	WRITE_ONCE(conv->enabled, false);
	sim_conv_kick(conv);
}

/* ---- time ------------------------------------------------------------ */

/* Does the converter have a clock, or does it follow the other end? */
static bool sim_conv_is_clocked(const struct sim_conv *conv)
{
	return !conv->free_running &&
	       (conv->info->output || READ_ONCE(conv->signal) != SIM_LOOPBACK);
}

static ktime_t sim_conv_time_of(const struct sim_conv *conv, u64 n)
{
	return ktime_add_ns(conv->t0, mul_u64_u64_div_u64(n - conv->n0,
							  NSEC_PER_SEC,
							  conv->rate));
}

static void sim_conv_lose(struct sim_conv *conv, u64 sets)
{
	atomic64_inc(&conv->stats.overruns);
	atomic64_add(sets, &conv->stats.lost);
	set_bit(conv->info->overrun_bit, &conv->status);
}

/*
 * Samples are ready to move since @ready. If that is later than the time of the
 * next sample set, an ADC has lost what lies between, and a DAC was idle. But
 * if the last transfer has ended later than it should have, that was our fault.
 */
static void sim_conv_catch_up(struct sim_conv *conv, ktime_t ready)
{
	ktime_t due;
	s64 late;
	u64 gone;

	if (!sim_conv_is_clocked(conv))
		return;
	due = sim_conv_time_of(conv, conv->n);
	if (ktime_after(conv->ended, due))
		due = conv->ended;
	late = ktime_to_ns(ktime_sub(ready, due));
	if (late <= SIM_FIFO_NS)
		return;
	gone = mul_u64_u64_div_u64(late, conv->rate, NSEC_PER_SEC);
	if (!gone)
		return;

	sim_conv_lose(conv, gone);
	if (conv->info->output)
		conv->t0 = ktime_add_ns(conv->t0, late);
	else
		conv->n += gone;
}

static void sim_conv_pace(struct sim_conv *conv)
{
	conv->unpaced = 0;
	if (sim_conv_is_clocked(conv))
		sim_dma_wait_until(&conv->dma, sim_conv_time_of(conv, conv->n));
}

/* ---- values ---------------------------------------------------------- */

/* Where we are: derived from the sample set's number, but cheaper to step. */
struct sim_cursor {
	u64 n;
	u32 phase;
	s64 ts;		/* floor of the time, ns */
	u32 ts_rest;	/* and the rest, in 1 / rate ns */
};

static void sim_cursor_seek(struct sim_cursor *cur, const struct sim_conv *conv,
			    u64 n)
{
	u64 ns = mul_u64_u64_div_u64(n, NSEC_PER_SEC, conv->rate);

	cur->n = n;
	cur->phase = n * conv->sine_step;
	cur->ts = conv->ts0 + ns;
	cur->ts_rest = n * NSEC_PER_SEC - ns * conv->rate;
}

static void sim_cursor_step(struct sim_cursor *cur, const struct sim_conv *conv,
			    u32 ns, u32 ns_rest)
{
	cur->n++;
	cur->phase += conv->sine_step;
	cur->ts += ns;
	cur->ts_rest += ns_rest;
	if (cur->ts_rest >= conv->rate) {
		cur->ts_rest -= conv->rate;
		cur->ts++;
	}
}

/* A channel's value, as raw shows it: sign extended, not shifted. */
static s32 sim_value(const struct sim_conv *conv, enum sim_signal signal,
		     const struct iio_chan_spec *ch, u64 word, u32 phase)
{
	unsigned int bits = ch->scan_type.realbits;
	unsigned int c = ch->channel;
	s32 v;

	if (signal == SIM_SINE) {
		/* every channel a quarter of a turn ahead of the one before */
		phase += c << 30;
		v = sine[phase >> (32 - SINE_BITS)] * conv->amplitude[c] >> 15;
		v = bits < 16 ? v >> (16 - bits) : v << (bits - 16);
		if (ch->scan_type.sign == 'u')
			v += 1 << (bits - 1);
		return v;
	}

	v = word >> (conv->info->lane_bits * c);
	if (ch->scan_type.sign == 'u')
		return v & GENMASK(bits - 1, 0);
	return sign_extend32(v, bits - 1);
}

static void sim_put(void *p, const struct iio_chan_spec *ch, s32 value)
{
	u32 v = (value & GENMASK(ch->scan_type.realbits - 1, 0))
		<< ch->scan_type.shift;
	bool be = ch->scan_type.endianness == IIO_BE;

	if (ch->scan_type.storagebits == 16) {
		if (be)
			put_unaligned_be16(v, p);
		else
			put_unaligned_le16(v, p);
	} else {
		if (be)
			put_unaligned_be32(v, p);
		else
			put_unaligned_le32(v, p);
	}
}

/**
 * sim_conv_value_now() - a single conversion
 * @conv: the converter
 * @ch: its channel
 *
 * Return: while streaming, the value in the sample set that is next; otherwise
 * that of a clock which has been running since boot.
 */
s32 sim_conv_value_now(struct sim_conv *conv, const struct iio_chan_spec *ch)
{
	enum sim_signal signal = READ_ONCE(conv->signal);
	u64 n = READ_ONCE(conv->n);

	if (signal == SIM_LOOPBACK)
		return conv->loop->from->out_raw[ch->channel];
	if (!READ_ONCE(conv->enabled))
		n = mul_u64_u64_div_u64(ktime_get_ns(), conv->rate, NSEC_PER_SEC);
	return sim_value(conv, signal, ch, n, n * conv->sine_step);
}

static void sim_check_threshold(struct sim_conv *conv, s32 v, s64 ts)
{
	s32 last = conv->last;

	conv->last = v;
	if (!conv->last_valid) {
		conv->last_valid = true;
		return;
	}
	if (test_bit(SIM_RISING, &conv->events) &&
	    last < conv->threshold[SIM_RISING] &&
	    v >= conv->threshold[SIM_RISING])
		iio_push_event(conv->indio_dev,
			       IIO_UNMOD_EVENT_CODE(IIO_VOLTAGE, 0,
						    IIO_EV_TYPE_THRESH,
						    IIO_EV_DIR_RISING), ts);
	if (test_bit(SIM_FALLING, &conv->events) &&
	    last > conv->threshold[SIM_FALLING] &&
	    v <= conv->threshold[SIM_FALLING])
		iio_push_event(conv->indio_dev,
			       IIO_UNMOD_EVENT_CODE(IIO_VOLTAGE, 0,
						    IIO_EV_TYPE_THRESH,
						    IIO_EV_DIR_FALLING), ts);
}

/* Sets from the one at @p to the first that begins in the next 4 KiB. */
static size_t sim_stride(const struct sim_conv *conv, const void *p)
{
	return DIV_ROUND_UP(SZ_4K - ((unsigned long)p & (SZ_4K - 1)),
			    conv->set_bytes);
}

/* ---- the wire from the DAC to the ADC -------------------------------- */

static unsigned int sim_loop_used(struct sim_loop *loop)
{
	/* pairs with the release at the other end, whichever end asks */
	return smp_load_acquire(&loop->head) - smp_load_acquire(&loop->tail);
}

static u64 *sim_loop_at(struct sim_loop *loop, unsigned int i)
{
	return &loop->buf[i % SIM_LOOP_SETS];
}

static bool sim_loop_is_open(struct sim_loop *loop)
{
	return READ_ONCE(loop->to->enabled) &&
	       READ_ONCE(loop->to->signal) == SIM_LOOPBACK;
}

/* ---- ADC ------------------------------------------------------------- */

static void sim_adc_fill_packed(struct sim_conv *conv, __le64 *p, size_t sets)
{
	u64 n = conv->n;
	size_t i;

	if (READ_ONCE(sparse))
		for (i = 0; i < sets; i += sim_stride(conv, p + i))
			p[i] = cpu_to_le64(n + i);
	else
		for (i = 0; i < sets; i++)
			p[i] = cpu_to_le64(n + i);
}

static void sim_adc_fill(struct sim_conv *conv, enum sim_signal signal,
			 void *p, size_t sets)
{
	struct sim_loop *loop = signal == SIM_LOOPBACK ? conv->loop : NULL;
	const struct iio_chan_spec *ch0 = conv->info->channels;
	u32 ns, ns_rest;
	struct sim_cursor cur;
	size_t i = 0;

	ns = NSEC_PER_SEC / conv->rate;
	ns_rest = NSEC_PER_SEC % conv->rate;
	sim_cursor_seek(&cur, conv, conv->n);
	while (i < sets) {
		void *set = p + i * conv->set_bytes;
		u64 word = loop ? *sim_loop_at(loop, loop->tail + i) : cur.n;
		unsigned int e;

		memset(set, 0, conv->set_bytes);
		for (e = 0; e < conv->elements; e++) {
			const struct iio_chan_spec *ch = conv->element[e].chan;

			sim_put(set + conv->element[e].offset, ch,
				sim_value(conv, signal, ch, word, cur.phase));
		}
		if (conv->ts_offset >= 0)
			put_unaligned(cur.ts, (s64 *)(set + conv->ts_offset));
		if (conv->events)
			sim_check_threshold(conv, sim_value(conv, signal, ch0, word,
							    cur.phase), cur.ts);

		if (READ_ONCE(sparse) && !loop) {
			i += sim_stride(conv, set);
			sim_cursor_seek(&cur, conv, conv->n + i);
		} else {
			i++;
			sim_cursor_step(&cur, conv, ns, ns_rest);
		}
	}
}

/* Make up to @sets sample sets; none if the DAC has not sent any. */
static size_t sim_adc_make(struct sim_conv *conv, void *p, size_t sets)
{
	enum sim_signal signal = READ_ONCE(conv->signal);
	struct sim_loop *loop = conv->loop;

	if (signal == SIM_LOOPBACK) {
		sim_dma_wait(&conv->dma, sim_loop_used(loop) ||
			     READ_ONCE(conv->signal) != SIM_LOOPBACK ||
			     READ_ONCE(conv->faults.stall));
		sets = min_t(size_t, sets, sim_loop_used(loop));
		if (!sets)
			return 0;
	}

	if (signal == SIM_COUNTER && conv->packed && !conv->events)
		sim_adc_fill_packed(conv, p, sets);
	else
		sim_adc_fill(conv, signal, p, sets);
	WRITE_ONCE(conv->n, conv->n + sets);

	if (signal == SIM_LOOPBACK) {
		/* the DAC may overwrite what we have read */
		smp_store_release(&loop->tail, loop->tail + sets);
		wake_up(&loop->from->dma.work);
	}
	return sets;
}

static size_t sim_adc_move_some(struct sim_conv *conv, void *p, size_t len)
{
	if (!conv->part_len) {
		if (len >= conv->set_bytes)
			return sim_adc_make(conv, p, len / conv->set_bytes) *
			       conv->set_bytes;
		if (!sim_adc_make(conv, conv->part, 1))
			return 0;
	}

	len = min(len, conv->set_bytes - conv->part_len);
	memcpy(p, conv->part + conv->part_len, len);
	conv->part_len += len;
	if (conv->part_len == conv->set_bytes)
		conv->part_len = 0;
	return len;
}

/* ---- DAC ------------------------------------------------------------- */

static u64 sim_dac_word(const struct sim_conv *conv, const void *set)
{
	u64 word = 0;
	unsigned int e;

	if (conv->packed)
		return get_unaligned_le64(set);
	for (e = 0; e < conv->elements; e++)
		word |= (u64)get_unaligned_le16(set + conv->element[e].offset)
			<< (conv->info->lane_bits * conv->element[e].chan->channel);
	return word;
}

/* How many of the next sets are as expected? */
static size_t sim_dac_match_packed(struct sim_conv *conv, const void *p,
				   size_t sets)
{
	const __le64 *set = p;
	size_t i;

	for (i = 0; i < sets; i++)
		if (get_unaligned_le64(set + i) != conv->expected + i)
			break;
	return i;
}

/* After a set that is wrong, expect what follows it. */
static void sim_dac_check(struct sim_conv *conv, const void *p, size_t sets)
{
	u64 expected, mask = conv->word_mask;
	size_t i = 0, step, errors = 0;

	if (conv->packed && !READ_ONCE(sparse))
		i = sim_dac_match_packed(conv, p, sets);
	expected = conv->expected + i;

	while (i < sets) {
		const void *set = p + i * conv->set_bytes;
		u64 word = sim_dac_word(conv, set);

		if ((word ^ expected) & mask) {
			dev_notice_ratelimited(&conv->indio_dev->dev,
					       "set %llu at %zu of %zu where %llu was due\n",
					       word & mask, i, sets, expected & mask);
			errors++;
			expected = (expected & ~mask) | (word & mask);
		}
		step = READ_ONCE(sparse) ? sim_stride(conv, set) : 1;
		step = min(step, sets - i);
		i += step;
		expected += step;
	}
	conv->expected = expected;
	if (errors)
		atomic64_add(errors, &conv->stats.pattern_errors);
}

/* Take up to @sets sample sets; none if the wire to the ADC is full. */
static size_t sim_dac_take(struct sim_conv *conv, const void *p, size_t sets)
{
	struct sim_loop *loop = conv->loop;
	size_t i, room = 0;

	if (sim_loop_is_open(loop)) {
		/*
		 * With a clock of our own, what the ADC does not take in time
		 * is lost. Without one, its pace is ours.
		 */
		if (conv->free_running)
			sim_dma_wait(&conv->dma,
				     sim_loop_used(loop) < SIM_LOOP_SETS ||
				     !sim_loop_is_open(loop) ||
				     READ_ONCE(conv->faults.stall));
		room = min_t(size_t, sets, SIM_LOOP_SETS - sim_loop_used(loop));
		if (conv->free_running) {
			if (!room && sim_loop_is_open(loop))
				return 0;
			if (room)
				sets = room;
		} else if (room < sets) {
			sim_conv_lose(loop->to, sets - room);
		}
		for (i = 0; i < room; i++)
			*sim_loop_at(loop, loop->head + i) =
				sim_dac_word(conv, p + i * conv->set_bytes);
		/* the ADC may read what we have written */
		smp_store_release(&loop->head, loop->head + room);
		wake_up(&loop->to->dma.work);
	}

	if (READ_ONCE(conv->signal) == SIM_COUNTER)
		sim_dac_check(conv, p, sets);
	WRITE_ONCE(conv->n, conv->n + sets);
	return sets;
}

static size_t sim_dac_move_some(struct sim_conv *conv, void *p, size_t len)
{
	if (!conv->part_len && len >= conv->set_bytes)
		return sim_dac_take(conv, p, len / conv->set_bytes) *
		       conv->set_bytes;

	len = min(len, conv->set_bytes - conv->part_len);
	memcpy(conv->part + conv->part_len, p, len);
	if (conv->part_len + len == conv->set_bytes) {
		if (!sim_dac_take(conv, conv->part, 1))
			return 0;
		conv->part_len = 0;
	} else {
		conv->part_len += len;
	}
	return len;
}

/* ---- DMA request line ------------------------------------------------ */

static void sim_wait_for_stall(struct sim_conv *conv)
{
	if (!READ_ONCE(conv->faults.stall))
		return;
	sim_dma_wait(&conv->dma, !READ_ONCE(conv->faults.stall));
	sim_conv_catch_up(conv, ktime_get());
}

static bool sim_prep(struct sim_dma_chan *dc)
{
	return atomic_dec_if_positive(&to_sim_conv(dc)->faults.fail_prep) < 0;
}

static bool sim_begin(struct sim_dma_chan *dc, const struct sim_dma_xfer *x,
		      size_t *want)
{
	struct sim_conv *conv = to_sim_conv(dc);
	int drop;

	if (atomic_dec_if_positive(&conv->faults.fail_next) >= 0) {
		atomic64_inc(&conv->stats.failed);
		return false;
	}

	if (!conv->started) {
		conv->started = true;
		conv->t0 = ktime_get();
		conv->n0 = conv->n;
		if (!conv->n)
			conv->ts0 = iio_get_time_ns(conv->indio_dev);
	}
	sim_conv_catch_up(conv, x->issued);

	drop = atomic_xchg(&conv->faults.drop, 0);
	if (drop > 0) {
		sim_conv_lose(conv, drop);
		conv->n += drop;
	}
	*want -= min_t(size_t, *want, READ_ONCE(conv->faults.shorten));
	return true;
}

static size_t sim_move(struct sim_dma_chan *dc, void *p, size_t len,
		       size_t (*some)(struct sim_conv *conv, void *p, size_t len))
{
	struct sim_conv *conv = to_sim_conv(dc);
	size_t done = 0;

	while (done < len) {
		sim_wait_for_stall(conv);
		if (sim_dma_aborted(dc))
			break;
		done += some(conv, p + done, len - done);
	}
	conv->unpaced += done;
	if (conv->unpaced >= SIM_PACE_BYTES)
		sim_conv_pace(conv);
	return done;
}

static size_t sim_adc_move(struct sim_dma_chan *dc, void *p, size_t len)
{
	return sim_move(dc, p, len, sim_adc_move_some);
}

static size_t sim_dac_move(struct sim_dma_chan *dc, void *p, size_t len)
{
	return sim_move(dc, p, len, sim_dac_move_some);
}

static void sim_end(struct sim_dma_chan *dc, size_t moved)
{
	struct sim_conv *conv = to_sim_conv(dc);

	sim_conv_pace(conv);
	sim_wait_for_stall(conv);
	if (sim_dma_aborted(dc))
		return;
	conv->ended = ktime_get();
	atomic64_inc(&conv->stats.blocks);
	atomic64_add(moved, &conv->stats.bytes);
}

const struct sim_dma_ops sim_adc_dma_ops = {
	.prep = sim_prep,
	.begin = sim_begin,
	.move = sim_adc_move,
	.end = sim_end,
};

const struct sim_dma_ops sim_dac_dma_ops = {
	.prep = sim_prep,
	.begin = sim_begin,
	.move = sim_dac_move,
	.end = sim_end,
};
