// SPDX-License-Identifier: GPL-2.0
/*
 * iio_sim: IIO converters without hardware
 *
 * Two ADCs and a DAC whose buffers are those of the converters of Analog
 * Devices' HDL cores (industrialio-buffer-dmaengine, thus DMABUF), on a DMA
 * controller in software. See README.md beside this folder for the data they
 * give, their attributes and the faults they can be told to have.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/iio/buffer.h>
#include <linux/iio/buffer-dmaengine.h>
#include <linux/iio/events.h>
#include <linux/iio/iio.h>
#include <linux/iio/sysfs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "iio_sim.h"

#define SIM_RATE_MAX	250000000	/* sample sets per second */

/*
 * Overrun or underrun, write 1 to clear: where the axi-adc and axi-dac cores
 * have it. libiio's tools read it there, with bit 31 set to tell the core's
 * registers from those of the converter chip.
 */
#define SIM_REG_STATUS		0x88
#define SIM_REG_CORE		BIT(31)
#define SIM_STATUS_UNDERFLOW	0	/* axi-dac */
#define SIM_STATUS_OVERFLOW	2	/* axi-adc */

enum sim_conv_id {
	SIM_ADC,
	SIM_MIXED,
	SIM_DAC,
	SIM_CONVS,
};

/**
 * struct sim - the platform device
 * @dma: the controller
 * @loop: the wire from the DAC to the ADC
 * @conv: the converters, each its IIO device's private data
 * @debugfs: folder
 */
struct sim {
	struct dma_device dma;
	struct sim_loop loop;
	struct sim_conv *conv[SIM_CONVS];
	struct dentry *debugfs;
};

static const char * const sim_signal_names[] = {
	[SIM_COUNTER] = "counter",
	[SIM_SINE] = "sine",
	[SIM_LOOPBACK] = "loopback",
	[SIM_NONE] = "none",
};

/* ---- channel attributes ---------------------------------------------- */

static int sim_read_raw(struct iio_dev *indio_dev,
			struct iio_chan_spec const *ch, int *val, int *val2,
			long info)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	switch (info) {
	case IIO_CHAN_INFO_RAW:
		*val = conv->info->output ? conv->out_raw[ch->channel] :
					    sim_conv_value_now(conv, ch);
		return IIO_VAL_INT;
	case IIO_CHAN_INFO_SCALE:
		/* a full scale of 5 V, in mV */
		*val = 5000;
		*val2 = ch->scan_type.realbits;
		return IIO_VAL_FRACTIONAL_LOG2;
	case IIO_CHAN_INFO_OFFSET:
		*val = ch->scan_type.sign == 'u' ?
		       -(1 << (ch->scan_type.realbits - 1)) : 0;
		return IIO_VAL_INT;
	case IIO_CHAN_INFO_HARDWAREGAIN:
		*val = conv->gain[ch->channel];
		*val2 = 0;
		return IIO_VAL_INT_PLUS_MICRO_DB;
	case IIO_CHAN_INFO_SAMP_FREQ:
		*val = conv->rate;
		return IIO_VAL_INT;
	default:
		return -EINVAL;
	}
}

static int sim_read_avail(struct iio_dev *indio_dev,
			  struct iio_chan_spec const *ch, const int **vals,
			  int *type, int *length, long info)
{
	static const int rates[] = { 1, 1, SIM_RATE_MAX };
	struct sim_conv *conv = iio_priv(indio_dev);

	switch (info) {
	case IIO_CHAN_INFO_SAMP_FREQ:
		*vals = rates;
		break;
	case IIO_CHAN_INFO_HARDWAREGAIN:
		*vals = conv->info->gain;
		break;
	default:
		return -EINVAL;
	}
	*type = IIO_VAL_INT;
	return IIO_AVAIL_RANGE;
}

static int sim_write_raw(struct iio_dev *indio_dev,
			 struct iio_chan_spec const *ch, int val, int val2,
			 long info)
{
	struct sim_conv *conv = iio_priv(indio_dev);
	int ret;

	switch (info) {
	case IIO_CHAN_INFO_RAW:
		if (!conv->info->output || val < S16_MIN || val > S16_MAX)
			return -EINVAL;
		ret = iio_device_claim_direct_mode(indio_dev);
		if (ret)
			return ret;
		conv->out_raw[ch->channel] = val;
		iio_device_release_direct_mode(indio_dev);
		return 0;
	case IIO_CHAN_INFO_HARDWAREGAIN:
		if (val < conv->info->gain[0] || val > conv->info->gain[2] || val2)
			return -EINVAL;
		sim_conv_set_gain(conv, ch->channel, val);
		return 0;
	case IIO_CHAN_INFO_SAMP_FREQ:
		if (val < 1 || val > SIM_RATE_MAX)
			return -EINVAL;
		ret = iio_device_claim_direct_mode(indio_dev);
		if (ret)
			return ret;
		conv->rate = val;
		sim_conv_set_sine(conv, conv->sine_hz);
		iio_device_release_direct_mode(indio_dev);
		return 0;
	default:
		return -EINVAL;
	}
}

static int sim_write_raw_get_fmt(struct iio_dev *indio_dev,
				 struct iio_chan_spec const *ch, long info)
{
	return info == IIO_CHAN_INFO_HARDWAREGAIN ? IIO_VAL_INT_PLUS_MICRO_DB :
						    IIO_VAL_INT;
}

static int sim_read_label(struct iio_dev *indio_dev,
			  struct iio_chan_spec const *ch, char *label)
{
	if (ch->type == IIO_TIMESTAMP)
		return sysfs_emit(label, "capture time\n");
	return sysfs_emit(label, "%s %c\n", ch->output ? "output" : "input",
			  'A' + ch->channel);
}

/* ---- threshold events on channel 0 ----------------------------------- */

static enum sim_edge sim_edge(enum iio_event_direction dir)
{
	return dir == IIO_EV_DIR_RISING ? SIM_RISING : SIM_FALLING;
}

static int sim_read_event_config(struct iio_dev *indio_dev,
				 const struct iio_chan_spec *ch,
				 enum iio_event_type type,
				 enum iio_event_direction dir)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	return test_bit(sim_edge(dir), &conv->events);
}

static int sim_write_event_config(struct iio_dev *indio_dev,
				  const struct iio_chan_spec *ch,
				  enum iio_event_type type,
				  enum iio_event_direction dir, int state)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	assign_bit(sim_edge(dir), &conv->events, state);
	return 0;
}

static int sim_read_event_value(struct iio_dev *indio_dev,
				const struct iio_chan_spec *ch,
				enum iio_event_type type,
				enum iio_event_direction dir,
				enum iio_event_info info, int *val, int *val2)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	*val = conv->threshold[sim_edge(dir)];
	return IIO_VAL_INT;
}

static int sim_write_event_value(struct iio_dev *indio_dev,
				 const struct iio_chan_spec *ch,
				 enum iio_event_type type,
				 enum iio_event_direction dir,
				 enum iio_event_info info, int val, int val2)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	if (val < S16_MIN || val > S16_MAX)
		return -EINVAL;
	WRITE_ONCE(conv->threshold[sim_edge(dir)], val);
	return 0;
}

static const struct iio_event_spec sim_events[] = {
	{
		.type = IIO_EV_TYPE_THRESH,
		.dir = IIO_EV_DIR_RISING,
		.mask_separate = BIT(IIO_EV_INFO_VALUE) | BIT(IIO_EV_INFO_ENABLE),
	},
	{
		.type = IIO_EV_TYPE_THRESH,
		.dir = IIO_EV_DIR_FALLING,
		.mask_separate = BIT(IIO_EV_INFO_VALUE) | BIT(IIO_EV_INFO_ENABLE),
	},
};

/* ---- device attributes ----------------------------------------------- */

static struct sim_conv *sim_dev_to_conv(struct device *dev)
{
	return iio_priv(dev_to_iio_dev(dev));
}

static ssize_t test_signal_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);

	return sysfs_emit(buf, "%s\n", sim_signal_names[conv->signal]);
}

static ssize_t test_signal_store(struct device *dev,
				 struct device_attribute *attr,
				 const char *buf, size_t len)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);
	int signal = sysfs_match_string(sim_signal_names, buf);

	if (signal < 0)
		return signal;
	if (!(conv->info->signals & BIT(signal)))
		return -EINVAL;

	WRITE_ONCE(conv->signal, signal);
	/* Loopback stops the ADC's clock: set it anew. */
	WRITE_ONCE(conv->started, false);
	sim_conv_kick(conv);
	return len;
}

static ssize_t test_signal_available_show(struct device *dev,
					  struct device_attribute *attr,
					  char *buf)
{
	const struct sim_conv *conv = sim_dev_to_conv(dev);
	unsigned long signals = conv->info->signals;
	int i, len = 0;

	for_each_set_bit(i, &signals, ARRAY_SIZE(sim_signal_names))
		len += sysfs_emit_at(buf, len, "%s%s", len ? " " : "",
				     sim_signal_names[i]);
	return len + sysfs_emit_at(buf, len, "\n");
}

static ssize_t sine_frequency_show(struct device *dev,
				   struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", sim_dev_to_conv(dev)->sine_hz);
}

static ssize_t sine_frequency_store(struct device *dev,
				    struct device_attribute *attr,
				    const char *buf, size_t len)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);
	u32 hz;
	int ret = kstrtou32(buf, 0, &hz);

	if (ret)
		return ret;
	if (hz > SIM_RATE_MAX / 2)
		return -EINVAL;
	sim_conv_set_sine(conv, hz);
	return len;
}

static ssize_t free_running_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", sim_dev_to_conv(dev)->free_running);
}

static ssize_t free_running_store(struct device *dev,
				  struct device_attribute *attr,
				  const char *buf, size_t len)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);
	bool on;
	int ret = kstrtobool(buf, &on);

	if (ret)
		return ret;
	ret = iio_device_claim_direct_mode(conv->indio_dev);
	if (ret)
		return ret;
	conv->free_running = on;
	iio_device_release_direct_mode(conv->indio_dev);
	return len;
}

static ssize_t overruns_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&conv->stats.overruns));
}

static ssize_t lost_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&conv->stats.lost));
}

static ssize_t pattern_errors_show(struct device *dev,
				   struct device_attribute *attr, char *buf)
{
	struct sim_conv *conv = sim_dev_to_conv(dev);

	return sysfs_emit(buf, "%lld\n",
			  atomic64_read(&conv->stats.pattern_errors));
}

static IIO_DEVICE_ATTR_RW(test_signal, 0);
static IIO_DEVICE_ATTR_RO(test_signal_available, 0);
static IIO_DEVICE_ATTR_RW(sine_frequency, 0);
static IIO_DEVICE_ATTR_RW(free_running, 0);
static IIO_DEVICE_ATTR_RO(overruns, 0);
static IIO_DEVICE_ATTR_RO(lost, 0);
static IIO_DEVICE_ATTR_RO(pattern_errors, 0);

static struct attribute *sim_adc_attrs[] = {
	&iio_dev_attr_test_signal.dev_attr.attr,
	&iio_dev_attr_test_signal_available.dev_attr.attr,
	&iio_dev_attr_sine_frequency.dev_attr.attr,
	&iio_dev_attr_free_running.dev_attr.attr,
	&iio_dev_attr_overruns.dev_attr.attr,
	&iio_dev_attr_lost.dev_attr.attr,
	NULL
};

static const struct attribute_group sim_adc_attr_group = {
	.attrs = sim_adc_attrs,
};

static struct attribute *sim_dac_attrs[] = {
	&iio_dev_attr_test_signal.dev_attr.attr,
	&iio_dev_attr_test_signal_available.dev_attr.attr,
	&iio_dev_attr_free_running.dev_attr.attr,
	&iio_dev_attr_overruns.dev_attr.attr,
	&iio_dev_attr_lost.dev_attr.attr,
	&iio_dev_attr_pattern_errors.dev_attr.attr,
	NULL
};

static const struct attribute_group sim_dac_attr_group = {
	.attrs = sim_dac_attrs,
};

/* ---- IIO device ------------------------------------------------------ */

static int sim_preenable(struct iio_dev *indio_dev)
{
	sim_conv_start(iio_priv(indio_dev));
	return 0;
}

static int sim_update_scan_mode(struct iio_dev *indio_dev,
				const unsigned long *mask)
{
	sim_conv_set_layout(iio_priv(indio_dev), mask,
			    indio_dev->scan_timestamp);
	return 0;
}

static int sim_postdisable(struct iio_dev *indio_dev)
{
	sim_conv_stop(iio_priv(indio_dev));
	return 0;
}

/* The transfers are issued between preenable and postenable. */
static const struct iio_buffer_setup_ops sim_setup_ops = {
	.preenable = sim_preenable,
	.postdisable = sim_postdisable,
};

static int sim_reg_access(struct iio_dev *indio_dev, unsigned int reg,
			  unsigned int writeval, unsigned int *readval)
{
	struct sim_conv *conv = iio_priv(indio_dev);

	if ((reg & ~SIM_REG_CORE) != SIM_REG_STATUS) {
		if (readval)
			*readval = 0;
		return 0;
	}
	if (readval)
		*readval = READ_ONCE(conv->status);
	else if (writeval & BIT(conv->info->overrun_bit))
		clear_bit(conv->info->overrun_bit, &conv->status);
	return 0;
}

#define SIM_IIO_INFO(_attrs)						\
	.attrs = (_attrs),						\
	.read_raw = sim_read_raw,					\
	.read_avail = sim_read_avail,					\
	.write_raw = sim_write_raw,					\
	.write_raw_get_fmt = sim_write_raw_get_fmt,			\
	.read_label = sim_read_label,					\
	.read_event_config = sim_read_event_config,			\
	.write_event_config = sim_write_event_config,			\
	.read_event_value = sim_read_event_value,			\
	.write_event_value = sim_write_event_value,			\
	.update_scan_mode = sim_update_scan_mode,			\
	.debugfs_reg_access = sim_reg_access

static const struct iio_info sim_adc_iio_info = {
	SIM_IIO_INFO(&sim_adc_attr_group),
};

static const struct iio_info sim_dac_iio_info = {
	SIM_IIO_INFO(&sim_dac_attr_group),
};

#define SIM_CHANNEL(_index, _output, _sign, _bits, _storage, _shift, _endian)	\
	.type = IIO_VOLTAGE,							\
	.indexed = 1,								\
	.channel = (_index),							\
	.output = (_output),							\
	.info_mask_separate = BIT(IIO_CHAN_INFO_RAW) |				\
			      BIT(IIO_CHAN_INFO_SCALE) |			\
			      BIT(IIO_CHAN_INFO_OFFSET) |			\
			      BIT(IIO_CHAN_INFO_HARDWAREGAIN),			\
	.info_mask_separate_available = BIT(IIO_CHAN_INFO_HARDWAREGAIN),	\
	.info_mask_shared_by_all = BIT(IIO_CHAN_INFO_SAMP_FREQ),		\
	.info_mask_shared_by_all_available = BIT(IIO_CHAN_INFO_SAMP_FREQ),	\
	.scan_index = (_index),							\
	.scan_type = {								\
		.sign = (_sign),						\
		.realbits = (_bits),						\
		.storagebits = (_storage),					\
		.shift = (_shift),						\
		.endianness = (_endian),					\
	}

static const struct iio_chan_spec sim_adc_channels[] = {
	{
		SIM_CHANNEL(0, 0, 's', 16, 16, 0, IIO_LE),
		.event_spec = sim_events,
		.num_event_specs = ARRAY_SIZE(sim_events),
	},
	{ SIM_CHANNEL(1, 0, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(2, 0, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(3, 0, 's', 16, 16, 0, IIO_LE) },
};

static const struct iio_chan_spec sim_mixed_channels[] = {
	{ SIM_CHANNEL(0, 0, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(1, 0, 's', 24, 32, 8, IIO_LE) },
	{ SIM_CHANNEL(2, 0, 's', 32, 32, 0, IIO_LE) },
	{ SIM_CHANNEL(3, 0, 'u', 12, 16, 4, IIO_BE) },
	IIO_CHAN_SOFT_TIMESTAMP(4),
};

static const struct iio_chan_spec sim_dac_channels[] = {
	{ SIM_CHANNEL(0, 1, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(1, 1, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(2, 1, 's', 16, 16, 0, IIO_LE) },
	{ SIM_CHANNEL(3, 1, 's', 16, 16, 0, IIO_LE) },
};

static const struct sim_conv_info sim_conv_infos[SIM_CONVS] = {
	[SIM_ADC] = {
		.name = "iio-sim-adc",
		.label = "simulated ADC",
		.debugfs = "adc",
		.dma = "rx",
		.iio = &sim_adc_iio_info,
		.dma_ops = &sim_adc_dma_ops,
		.channels = sim_adc_channels,
		.num_channels = ARRAY_SIZE(sim_adc_channels),
		.signals = BIT(SIM_COUNTER) | BIT(SIM_SINE) | BIT(SIM_LOOPBACK),
		.lane_bits = 16,
		.gain = { 0, 1, 71 },
		.overrun_bit = SIM_STATUS_OVERFLOW,
	},
	[SIM_MIXED] = {
		.name = "iio-sim-mixed",
		.label = "simulated ADC, mixed widths",
		.debugfs = "mixed",
		.dma = "rx-mixed",
		.iio = &sim_adc_iio_info,
		.dma_ops = &sim_adc_dma_ops,
		.channels = sim_mixed_channels,
		.num_channels = ARRAY_SIZE(sim_mixed_channels),
		.signals = BIT(SIM_COUNTER) | BIT(SIM_SINE),
		.gain = { 0, 1, 71 },
		.overrun_bit = SIM_STATUS_OVERFLOW,
	},
	[SIM_DAC] = {
		.name = "iio-sim-dac",
		.label = "simulated DAC",
		.debugfs = "dac",
		.dma = "tx",
		.iio = &sim_dac_iio_info,
		.dma_ops = &sim_dac_dma_ops,
		.channels = sim_dac_channels,
		.num_channels = ARRAY_SIZE(sim_dac_channels),
		.output = true,
		.signals = BIT(SIM_COUNTER) | BIT(SIM_NONE),
		.lane_bits = 16,
		.gain = { -89, 1, 0 },
		.overrun_bit = SIM_STATUS_UNDERFLOW,
	},
};

/* ---- debugfs --------------------------------------------------------- */

static int sim_stall_get(void *data, u64 *val)
{
	struct sim_conv *conv = data;

	*val = conv->faults.stall;
	return 0;
}

static int sim_stall_set(void *data, u64 val)
{
	struct sim_conv *conv = data;

	WRITE_ONCE(conv->faults.stall, val);
	sim_conv_kick(conv);
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(sim_stall_fops, sim_stall_get, sim_stall_set, "%llu\n");

static int stats_show(struct seq_file *s, void *unused)
{
	struct sim_conv *conv = s->private;

	seq_printf(s, "blocks %lld\n", atomic64_read(&conv->stats.blocks));
	seq_printf(s, "bytes %lld\n", atomic64_read(&conv->stats.bytes));
	seq_printf(s, "failed %lld\n", atomic64_read(&conv->stats.failed));
	seq_printf(s, "overruns %lld\n", atomic64_read(&conv->stats.overruns));
	seq_printf(s, "lost %lld\n", atomic64_read(&conv->stats.lost));
	if (conv->info->output)
		seq_printf(s, "pattern_errors %lld\n",
			   atomic64_read(&conv->stats.pattern_errors));
	seq_printf(s, "next %llu\n", READ_ONCE(conv->n));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static void sim_conv_debugfs(struct sim_conv *conv, struct dentry *parent)
{
	struct dentry *dir = debugfs_create_dir(conv->info->debugfs, parent);

	debugfs_create_file_unsafe("stall", 0644, dir, conv, &sim_stall_fops);
	debugfs_create_atomic_t("fail_next", 0644, dir, &conv->faults.fail_next);
	debugfs_create_atomic_t("fail_prep", 0644, dir, &conv->faults.fail_prep);
	debugfs_create_u32("shorten", 0644, dir, &conv->faults.shorten);
	if (!conv->info->output)
		debugfs_create_atomic_t("drop", 0644, dir, &conv->faults.drop);
	debugfs_create_file("stats", 0444, dir, conv, &stats_fops);
}

static void sim_debugfs_remove(void *dir)
{
	debugfs_remove_recursive(dir);
}

/* ---- platform device ------------------------------------------------- */

static struct sim_conv *sim_conv_alloc(struct device *dev,
				       const struct sim_conv_info *info)
{
	struct iio_dev *indio_dev;
	struct sim_conv *conv;
	int i;

	indio_dev = devm_iio_device_alloc(dev, sizeof(*conv));
	if (!indio_dev)
		return NULL;
	conv = iio_priv(indio_dev);
	conv->indio_dev = indio_dev;
	conv->info = info;
	conv->rate = 1000000;
	sim_conv_set_sine(conv, 1000);
	/* half of full scale */
	for (i = 0; i < SIM_MAX_CHANNELS; i++)
		sim_conv_set_gain(conv, i, info->gain[2] - 6);
	sim_dma_chan_init(&conv->dma, info->dma, info->dma_ops);

	indio_dev->name = info->name;
	indio_dev->label = info->label;
	indio_dev->info = info->iio;
	indio_dev->modes = INDIO_DIRECT_MODE;
	indio_dev->setup_ops = &sim_setup_ops;
	indio_dev->channels = info->channels;
	indio_dev->num_channels = info->num_channels;
	return conv;
}

/*
 * A process may still hold the buffer of a device that has gone, with DMABUFs
 * attached, and nothing but that process's iio_dev reference tells. Closing it
 * unmaps the DMABUFs from the DMA device, which the attachments do not keep
 * alive. Then rather lose the memory of one struct device.
 */
static void sim_pin_if_held(void *data)
{
	struct iio_dev *indio_dev = data;

	if (kref_read(&indio_dev->dev.kobj.kref) > 1)
		get_device(indio_dev->dev.parent);
}

static int sim_conv_register(struct device *dev, struct sim_conv *conv)
{
	struct iio_dev *indio_dev = conv->indio_dev;
	int ret;

	ret = devm_iio_dmaengine_buffer_setup_ext(dev, indio_dev,
						  conv->info->dma,
						  conv->info->output ?
						  IIO_BUFFER_DIRECTION_OUT :
						  IIO_BUFFER_DIRECTION_IN);
	if (ret)
		return ret;
	ret = devm_add_action_or_reset(dev, sim_pin_if_held, indio_dev);
	if (ret)
		return ret;
	return devm_iio_device_register(dev, indio_dev);
}

static void sim_loop_free(void *buf)
{
	kvfree(buf);
}

static int sim_probe(struct platform_device *pdev)
{
	struct sim_dma_chan *chans[SIM_CONVS];
	struct device *dev = &pdev->dev;
	struct sim *sim;
	int i, ret;

	sim = devm_kzalloc(dev, sizeof(*sim), GFP_KERNEL);
	if (!sim)
		return -ENOMEM;

	/*
	 * The CPU does the work, at any address: never bounce. The segment size
	 * caps the blocks of read() and write().
	 */
	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return dev_err_probe(dev, ret, "no DMA\n");
	dma_set_max_seg_size(dev, SZ_1G);

	sim->loop.buf = kvcalloc(SIM_LOOP_SETS, sizeof(u64), GFP_KERNEL);
	if (!sim->loop.buf)
		return -ENOMEM;
	ret = devm_add_action_or_reset(dev, sim_loop_free, sim->loop.buf);
	if (ret)
		return ret;

	for (i = 0; i < SIM_CONVS; i++) {
		sim->conv[i] = sim_conv_alloc(dev, &sim_conv_infos[i]);
		if (!sim->conv[i])
			return -ENOMEM;
		chans[i] = &sim->conv[i]->dma;
	}
	sim->loop.from = sim->conv[SIM_DAC];
	sim->loop.to = sim->conv[SIM_ADC];
	sim->conv[SIM_DAC]->loop = &sim->loop;
	sim->conv[SIM_ADC]->loop = &sim->loop;

	ret = devm_sim_dma_register(dev, &sim->dma, chans, SIM_CONVS);
	if (ret)
		return dev_err_probe(dev, ret, "DMA controller\n");

	for (i = 0; i < SIM_CONVS; i++) {
		ret = sim_conv_register(dev, sim->conv[i]);
		if (ret)
			return dev_err_probe(dev, ret, "%s\n",
					     sim_conv_infos[i].name);
	}

	sim->debugfs = debugfs_create_dir(SIM_NAME, NULL);
	for (i = 0; i < SIM_CONVS; i++)
		sim_conv_debugfs(sim->conv[i], sim->debugfs);
	return devm_add_action_or_reset(dev, sim_debugfs_remove, sim->debugfs);
}

static struct platform_driver sim_driver = {
	.probe = sim_probe,
	.driver = {
		.name = SIM_NAME,
	},
};

static struct platform_device *sim_pdev;

static int __init sim_init(void)
{
	int ret;

	sim_signal_init();
	ret = platform_driver_register(&sim_driver);
	if (ret)
		return ret;
	sim_pdev = platform_device_register_simple(SIM_NAME, 0, NULL, 0);
	if (IS_ERR(sim_pdev)) {
		platform_driver_unregister(&sim_driver);
		return PTR_ERR(sim_pdev);
	}
	return 0;
}
module_init(sim_init);

static void __exit sim_exit(void)
{
	platform_device_unregister(sim_pdev);
	platform_driver_unregister(&sim_driver);
}
module_exit(sim_exit);

MODULE_DESCRIPTION("IIO converters without hardware");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(IIO_DMAENGINE_BUFFER);
