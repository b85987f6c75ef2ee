/* SPDX-License-Identifier: GPL-2.0 */
/*
 * iio_sim: IIO converters without hardware
 *
 * Three layers, each in a file of its own, each knowing only the one below:
 *
 *   iio_sim_core.c    platform device, IIO devices, attributes, debugfs
 *   iio_sim_signal.c  struct sim_conv: what flows, when, and what goes wrong
 *   iio_sim_dma.c     struct sim_dma_chan: a dmaengine channel run by a kthread
 *
 * The DMA layer calls the converter through struct sim_dma_ops, as a DMA
 * controller would move data for whatever is wired to its request line.
 */
#ifndef IIO_SIM_H
#define IIO_SIM_H

#include <linux/atomic.h>
#include <linux/dmaengine.h>
#include <linux/iio/iio.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#define SIM_NAME		"iio_sim"
#define SIM_MAX_CHANNELS	4
#define SIM_MAX_SET_BYTES	32

/* ---- DMA ------------------------------------------------------------- */

struct sim_dma_chan;

/**
 * struct sim_dma_xfer - one transfer, as the peripheral sees it
 * @issued: when the client issued it (CLOCK_MONOTONIC)
 * @len: its length in bytes
 */
struct sim_dma_xfer {
	ktime_t issued;
	size_t len;
};

/**
 * struct sim_dma_ops - the peripheral at the other end of a channel
 * @prep: may a transfer be prepared? false makes the prep call fail
 * @begin: a transfer starts; sets how many of its bytes to move (*@want, at
 *	first all); false ends it at once with an error result
 * @move: move up to @len bytes from or to @p; returns how many were moved, less
 *	than @len only if the transfer was aborted meanwhile
 * @end: all bytes were moved; may delay the completion
 *
 * @prep is called from any context; the others from the channel's thread, which
 * may sleep in them with sim_dma_wait().
 */
struct sim_dma_ops {
	bool (*prep)(struct sim_dma_chan *dc);
	bool (*begin)(struct sim_dma_chan *dc, const struct sim_dma_xfer *x,
		      size_t *want);
	size_t (*move)(struct sim_dma_chan *dc, void *p, size_t len);
	void (*end)(struct sim_dma_chan *dc, size_t moved);
};

/**
 * struct sim_dma_chan - one channel and its thread
 * @chan: what dmaengine clients hold
 * @ops: the peripheral
 * @name: request line name, for dma_request_chan()
 * @work: @thread waits here: for transfers, for a time, for the peripheral
 * @idle: sim_dma_synchronize() waits here
 * @lock: protects what follows
 * @submitted: descriptors between tx_submit and issue_pending
 * @issued: descriptors to be worked on, in order
 * @active: the descriptor that @thread is working on; it stays here until its
 *	callback has returned
 */
struct sim_dma_chan {
	struct dma_chan chan;
	const struct sim_dma_ops *ops;
	const char *name;
	wait_queue_head_t work;
	wait_queue_head_t idle;
	spinlock_t lock;
	struct list_head submitted;
	struct list_head issued;
	struct sim_dma_desc *active;
};

void sim_dma_chan_init(struct sim_dma_chan *dc, const char *name,
		       const struct sim_dma_ops *ops);
int devm_sim_dma_register(struct device *dev, struct dma_device *dd,
			  struct sim_dma_chan **chans, unsigned int n);
bool sim_dma_aborted(struct sim_dma_chan *dc);
void sim_dma_wait_until(struct sim_dma_chan *dc, ktime_t t);

/**
 * sim_dma_wait() - let the channel's thread wait for a condition
 * @dc: the channel
 * @cond: C expression; whoever makes it true must wake @dc->work
 *
 * Ends early if the transfer is aborted: check sim_dma_aborted() afterwards.
 */
#define sim_dma_wait(dc, cond) \
	wait_event_idle((dc)->work, (cond) || sim_dma_aborted(dc))

/* ---- Converters ------------------------------------------------------ */

enum sim_signal {
	SIM_COUNTER,
	SIM_SINE,
	SIM_LOOPBACK,
	SIM_NONE,
};

enum sim_edge {
	SIM_RISING,
	SIM_FALLING,
};

/**
 * struct sim_conv_info - what kind of converter
 * @name: IIO device name
 * @label: IIO device label
 * @debugfs: name of its debugfs folder
 * @dma: name of its DMA request line
 * @iio: its callbacks and attributes
 * @dma_ops: what it does to the memory
 * @channels: IIO channels; a timestamp, if any, comes last
 * @num_channels: how many, with the timestamp
 * @output: DAC
 * @signals: mask of the enum sim_signal it knows
 * @lane_bits: channel c carries the bits from lane_bits * c up of a counter
 * @gain: hardwaregain in dB: minimum, step, maximum; a sine is full scale at the
 *	maximum
 * @overrun_bit: bit of SIM_REG_STATUS that says that samples were lost
 */
struct sim_conv_info {
	const char *name;
	const char *label;
	const char *debugfs;
	const char *dma;
	const struct iio_info *iio;
	const struct sim_dma_ops *dma_ops;
	const struct iio_chan_spec *channels;
	int num_channels;
	bool output;
	unsigned int signals;
	unsigned int lane_bits;
	int gain[3];
	unsigned int overrun_bit;
};

/**
 * struct sim_element - place of one channel in a sample set
 * @chan: the channel
 * @offset: byte offset in the set
 */
struct sim_element {
	const struct iio_chan_spec *chan;
	unsigned int offset;
};

#define SIM_LOOP_SETS	SZ_64K

/**
 * struct sim_loop - sample sets on their way from the DAC to the ADC
 * @buf: ring of SIM_LOOP_SETS sets, 16 bits per channel
 * @head: next to be written, only by the DAC's thread
 * @tail: next to be read, only by the ADC's thread
 * @from: the DAC
 * @to: the ADC
 *
 * One writer, one reader, so acquire/release on the indices is all it takes.
 */
struct sim_loop {
	u64 *buf;
	unsigned int head;
	unsigned int tail;
	struct sim_conv *from;
	struct sim_conv *to;
};

/**
 * struct sim_faults - what shall go wrong, set through debugfs
 * @stall: nothing moves while set
 * @fail_next: transfers yet to end with an error result
 * @fail_prep: transfers yet to be refused when they are prepared
 * @shorten: bytes that every transfer ends early by
 * @drop: sample sets to lose before the next transfer
 */
struct sim_faults {
	bool stall;
	atomic_t fail_next;
	atomic_t fail_prep;
	u32 shorten;
	atomic_t drop;
};

/**
 * struct sim_stats - totals since the module was loaded
 * @blocks: transfers that ended without an error
 * @bytes: bytes moved by them
 * @failed: transfers that ended with an error
 * @overruns: times that samples were lost (ADC) or came too late (DAC)
 * @lost: sample sets lost (ADC) or set periods without data (DAC)
 * @pattern_errors: sample sets that were not the expected ones (DAC)
 */
struct sim_stats {
	atomic64_t blocks;
	atomic64_t bytes;
	atomic64_t failed;
	atomic64_t overruns;
	atomic64_t lost;
	atomic64_t pattern_errors;
};

/**
 * struct sim_conv - one converter
 * @dma: its DMA channel
 * @info: what kind it is
 * @indio_dev: the IIO device that it belongs to
 * @loop: the wire from the DAC to the ADC, NULL if neither
 * @faults: what shall go wrong
 * @stats: what happened
 * @status: register SIM_REG_STATUS
 * @rate: sample sets per second
 * @free_running: convert as fast as the data is taken
 * @signal: what flows (ADC) or is expected (DAC)
 * @sine_hz: frequency of a sine
 * @sine_step: its phase per sample set, 2^32 is a turn
 * @gain: hardwaregain per channel, dB
 * @amplitude: of a sine, per channel, 1 << 15 is full scale
 * @out_raw: DAC, what was last written to a channel's raw
 * @threshold: of the events, by enum sim_edge
 * @events: mask of the enum sim_edge that are reported
 * @element: layout of a sample set
 * @elements: number of channels in a sample set, without the timestamp
 * @ts_offset: byte offset of the timestamp, negative if there is none
 * @set_bytes: size of a sample set, with padding
 * @word_mask: bits of a counter that the layout carries
 * @packed: the layout is four 16-bit lanes: a sample set is one LE u64
 * @enabled: the buffer is on
 * @started: the first transfer after enabling has begun
 * @n: number of the next sample set
 * @n0: a sample set whose time is known ...
 * @t0: ... to be this, CLOCK_MONOTONIC
 * @ended: when the last transfer did, CLOCK_MONOTONIC
 * @ts0: timestamp of set 0, in the clock chosen for the IIO device
 * @unpaced: bytes moved since we last looked at the clock
 * @expected: DAC, next word of the pattern
 * @last: previous value of channel 0, for the events
 * @last_valid: there is one
 * @part: a sample set that lies across two pieces of memory
 * @part_len: bytes of it that were moved already
 *
 * Settings are written by attribute accesses at any time, except for those that
 * define the clock: only while the buffer is off. What follows @elements is set
 * up while the buffer is off and belongs to the thread while it is on.
 */
struct sim_conv {
	struct sim_dma_chan dma;
	const struct sim_conv_info *info;
	struct iio_dev *indio_dev;
	struct sim_loop *loop;

	struct sim_faults faults;
	struct sim_stats stats;
	unsigned long status;

	u32 rate;
	bool free_running;
	enum sim_signal signal;
	u32 sine_hz;
	u32 sine_step;
	int gain[SIM_MAX_CHANNELS];
	s32 amplitude[SIM_MAX_CHANNELS];
	s16 out_raw[SIM_MAX_CHANNELS];
	int threshold[2];
	unsigned long events;

	struct sim_element element[SIM_MAX_CHANNELS];
	unsigned int elements;
	int ts_offset;
	unsigned int set_bytes;
	u64 word_mask;
	bool packed;

	bool enabled;
	bool started;
	u64 n;
	u64 n0;
	ktime_t t0;
	ktime_t ended;
	s64 ts0;
	size_t unpaced;
	u64 expected;
	s32 last;
	bool last_valid;
	u8 part[SIM_MAX_SET_BYTES] __aligned(8);
	unsigned int part_len;
};

extern const struct sim_dma_ops sim_adc_dma_ops;
extern const struct sim_dma_ops sim_dac_dma_ops;

void sim_signal_init(void);
void sim_conv_set_sine(struct sim_conv *conv, u32 hz);
void sim_conv_set_gain(struct sim_conv *conv, unsigned int c, int gain);
void sim_conv_set_layout(struct sim_conv *conv, const unsigned long *mask,
			 bool timestamp);
void sim_conv_start(struct sim_conv *conv);
void sim_conv_stop(struct sim_conv *conv);
void sim_conv_kick(struct sim_conv *conv);
s32 sim_conv_value_now(struct sim_conv *conv, const struct iio_chan_spec *ch);

#endif
