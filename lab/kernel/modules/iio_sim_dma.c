// SPDX-License-Identifier: GPL-2.0
/*
 * iio_sim: a DMA controller in software
 *
 * Every channel has a kthread that does the transfers in the order in which
 * they were issued. What flows, and how fast, is the business of the peripheral
 * (struct sim_dma_ops).
 */
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "dmaengine.h"
#include "iio_sim.h"

/* A transfer can be aborted, and its residue seen to shrink, in such steps. */
#define SIM_DMA_BURST	SZ_64K

/**
 * struct sim_dma_desc - one transfer
 * @tx: what the client holds
 * @node: in one of the channel's lists
 * @x: the transfer, as the peripheral sees it
 * @done: bytes moved so far
 * @dir: direction
 * @aborted: set by terminate_all while the transfer is active: no callback
 *	from now on
 * @nents: number of pieces
 * @vec: pieces of memory, bus addresses
 */
struct sim_dma_desc {
	struct dma_async_tx_descriptor tx;
	struct list_head node;
	struct sim_dma_xfer x;
	size_t done;
	enum dma_transfer_direction dir;
	bool aborted;
	unsigned int nents;
	struct dma_vec vec[] __counted_by(nents);
};

static struct sim_dma_chan *to_sim_dma_chan(struct dma_chan *chan)
{
	return container_of(chan, struct sim_dma_chan, chan);
}

static struct sim_dma_desc *to_sim_dma_desc(struct dma_async_tx_descriptor *tx)
{
	return container_of(tx, struct sim_dma_desc, tx);
}

/* ---- for the peripheral, in the channel's thread --------------------- */

/**
 * sim_dma_aborted() - has the active transfer been terminated?
 * @dc: the channel
 */
bool sim_dma_aborted(struct sim_dma_chan *dc)
{
	return READ_ONCE(dc->active->aborted) || kthread_should_stop();
}

/**
 * sim_dma_wait_until() - wait for a time
 * @dc: the channel
 * @t: CLOCK_MONOTONIC
 *
 * Ends early if the transfer is aborted.
 */
void sim_dma_wait_until(struct sim_dma_chan *dc, ktime_t t)
{
	ktime_t left = ktime_sub(t, ktime_get());

	/* Interruptible only so as not to count as load: nobody signals us. */
	if (left > 0)
		wait_event_interruptible_hrtimeout(dc->work,
						   sim_dma_aborted(dc), left);
}

/* ---- the thread ------------------------------------------------------ */

/* False: the transfer failed. An aborted one is neither here nor there. */
static bool sim_dma_run(struct sim_dma_chan *dc, struct sim_dma_desc *desc)
{
	struct device *dev = dc->chan.device->dev;
	size_t want = desc->x.len;
	unsigned int i;

	if (!dc->ops->begin(dc, &desc->x, &want))
		return false;

	for (i = 0; i < desc->nents && desc->done < want; i++) {
		void *p = phys_to_virt(dma_to_phys(dev, desc->vec[i].addr));
		size_t left = min(desc->vec[i].len, want - desc->done);

		while (left) {
			size_t len = min_t(size_t, left, SIM_DMA_BURST);
			size_t moved = dc->ops->move(dc, p, len);

			WRITE_ONCE(desc->done, desc->done + moved);
			if (moved < len)
				return true;
			p += len;
			left -= len;
			cond_resched();
		}
	}
	dc->ops->end(dc, desc->done);
	return true;
}

static void sim_dma_finish(struct sim_dma_chan *dc, struct sim_dma_desc *desc,
			   bool ok)
{
	struct dmaengine_result result = {
		.result = DMA_TRANS_NOERROR,
		.residue = desc->x.len - desc->done,
	};
	bool aborted;

	if (!ok)
		result.result = desc->dir == DMA_DEV_TO_MEM ?
				DMA_TRANS_WRITE_FAILED : DMA_TRANS_READ_FAILED;

	spin_lock_irq(&dc->lock);
	aborted = desc->aborted;
	if (!aborted)
		dma_cookie_complete(&desc->tx);
	spin_unlock_irq(&dc->lock);

	if (!aborted)
		dmaengine_desc_get_callback_invoke(&desc->tx, &result);
}

static int sim_dma_thread(void *arg)
{
	struct sim_dma_chan *dc = arg;
	struct sim_dma_desc *desc;

	for (;;) {
		wait_event_idle(dc->work, kthread_should_stop() ||
				!list_empty_careful(&dc->issued));
		if (kthread_should_stop())
			return 0;

		spin_lock_irq(&dc->lock);
		desc = list_first_entry_or_null(&dc->issued,
						struct sim_dma_desc, node);
		if (desc)
			list_del(&desc->node);
		dc->active = desc;
		spin_unlock_irq(&dc->lock);
		if (!desc)
			continue;

		sim_dma_finish(dc, desc, sim_dma_run(dc, desc));

		spin_lock_irq(&dc->lock);
		dc->active = NULL;
		spin_unlock_irq(&dc->lock);
		wake_up(&dc->idle);
		kfree(desc);
	}
}

/* ---- dmaengine ------------------------------------------------------- */

static dma_cookie_t sim_dma_tx_submit(struct dma_async_tx_descriptor *tx)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(tx->chan);
	struct sim_dma_desc *desc = to_sim_dma_desc(tx);

	guard(spinlock_irqsave)(&dc->lock);
	list_add_tail(&desc->node, &dc->submitted);
	return dma_cookie_assign(tx);
}

static struct sim_dma_desc *sim_dma_desc_alloc(struct dma_chan *chan,
					       unsigned int nents,
					       enum dma_transfer_direction dir,
					       unsigned long flags)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(chan);
	struct sim_dma_desc *desc;

	if (!dc->ops->prep(dc))
		return NULL;

	/* prep may be called from atomic context */
	desc = kzalloc(struct_size(desc, vec, nents), GFP_NOWAIT);
	if (!desc)
		return NULL;

	dma_async_tx_descriptor_init(&desc->tx, chan);
	desc->tx.flags = flags;
	desc->tx.tx_submit = sim_dma_tx_submit;
	desc->dir = dir;
	desc->nents = nents;
	return desc;
}

static struct dma_async_tx_descriptor *
sim_dma_prep_vec(struct dma_chan *chan, const struct dma_vec *vecs,
		 size_t nents, enum dma_transfer_direction dir,
		 unsigned long flags)
{
	struct sim_dma_desc *desc = sim_dma_desc_alloc(chan, nents, dir, flags);
	size_t i;

	if (!desc)
		return NULL;
	for (i = 0; i < nents; i++) {
		desc->vec[i] = vecs[i];
		desc->x.len += vecs[i].len;
	}
	return &desc->tx;
}

static struct dma_async_tx_descriptor *
sim_dma_prep_sg(struct dma_chan *chan, struct scatterlist *sgl,
		unsigned int nents, enum dma_transfer_direction dir,
		unsigned long flags, void *context)
{
	struct sim_dma_desc *desc = sim_dma_desc_alloc(chan, nents, dir, flags);
	struct scatterlist *sg;
	int i;

	if (!desc)
		return NULL;
	for_each_sg(sgl, sg, nents, i) {
		desc->vec[i].addr = sg_dma_address(sg);
		desc->vec[i].len = sg_dma_len(sg);
		desc->x.len += sg_dma_len(sg);
	}
	return &desc->tx;
}

static void sim_dma_issue_pending(struct dma_chan *chan)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(chan);
	struct sim_dma_desc *desc;
	ktime_t now = ktime_get();

	scoped_guard(spinlock_irqsave, &dc->lock) {
		list_for_each_entry(desc, &dc->submitted, node)
			desc->x.issued = now;
		list_splice_tail_init(&dc->submitted, &dc->issued);
	}
	wake_up(&dc->work);
}

static enum dma_status sim_dma_tx_status(struct dma_chan *chan,
					 dma_cookie_t cookie,
					 struct dma_tx_state *state)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(chan);
	struct sim_dma_desc *desc;
	enum dma_status status;

	guard(spinlock_irqsave)(&dc->lock);
	status = dma_cookie_status(chan, cookie, state);
	if (status == DMA_COMPLETE)
		return status;
	if (dc->active && dc->active->tx.cookie == cookie) {
		dma_set_residue(state, dc->active->x.len -
				READ_ONCE(dc->active->done));
		return status;
	}
	list_for_each_entry(desc, &dc->issued, node)
		if (desc->tx.cookie == cookie)
			dma_set_residue(state, desc->x.len);
	return status;
}

static int sim_dma_terminate_all(struct dma_chan *chan)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(chan);
	struct sim_dma_desc *desc, *next;
	LIST_HEAD(dead);

	scoped_guard(spinlock_irqsave, &dc->lock) {
		list_splice_tail_init(&dc->submitted, &dead);
		list_splice_tail_init(&dc->issued, &dead);
		if (dc->active)
			WRITE_ONCE(dc->active->aborted, true);
	}
	wake_up(&dc->work);
	list_for_each_entry_safe(desc, next, &dead, node)
		kfree(desc);
	return 0;
}

static bool sim_dma_is_idle(struct sim_dma_chan *dc)
{
	guard(spinlock_irq)(&dc->lock);
	return !dc->active || !dc->active->aborted;
}

static void sim_dma_synchronize(struct dma_chan *chan)
{
	struct sim_dma_chan *dc = to_sim_dma_chan(chan);

	wait_event(dc->idle, sim_dma_is_idle(dc));
}

static int sim_dma_alloc_chan_resources(struct dma_chan *chan)
{
	dma_cookie_init(chan);
	return 0;
}

static void sim_dma_free_chan_resources(struct dma_chan *chan)
{
	sim_dma_terminate_all(chan);
	sim_dma_synchronize(chan);
}

static int sim_dma_config(struct dma_chan *chan, struct dma_slave_config *config)
{
	return 0;
}

/* Each entry of the slave map carries its channel. */
static bool sim_dma_filter(struct dma_chan *chan, void *param)
{
	return to_sim_dma_chan(chan) == param;
}

/* ---- set-up ---------------------------------------------------------- */

void sim_dma_chan_init(struct sim_dma_chan *dc, const char *name,
		       const struct sim_dma_ops *ops)
{
	dc->name = name;
	dc->ops = ops;
	spin_lock_init(&dc->lock);
	INIT_LIST_HEAD(&dc->submitted);
	INIT_LIST_HEAD(&dc->issued);
	init_waitqueue_head(&dc->work);
	init_waitqueue_head(&dc->idle);
}

static void sim_dma_stop_thread(void *thread)
{
	kthread_stop(thread);
}

static void sim_dma_unregister(void *dd)
{
	dma_async_device_unregister(dd);
}

/**
 * devm_sim_dma_register() - start the channels and register the controller
 * @dev: controller, and the client that may request the channels
 * @dd: to be filled in
 * @chans: channels, set up by sim_dma_chan_init()
 * @n: number of channels
 *
 * Return: 0 or a negative errno
 */
int devm_sim_dma_register(struct device *dev, struct dma_device *dd,
			  struct sim_dma_chan **chans, unsigned int n)
{
	struct dma_slave_map *map;
	struct task_struct *thread;
	unsigned int i;
	int ret;

	map = devm_kcalloc(dev, n, sizeof(*map), GFP_KERNEL);
	if (!map)
		return -ENOMEM;

	dd->dev = dev;
	dma_cap_set(DMA_SLAVE, dd->cap_mask);
	dma_cap_set(DMA_PRIVATE, dd->cap_mask);
	dd->directions = BIT(DMA_DEV_TO_MEM) | BIT(DMA_MEM_TO_DEV);
	dd->src_addr_widths = BIT(DMA_SLAVE_BUSWIDTH_8_BYTES);
	dd->dst_addr_widths = BIT(DMA_SLAVE_BUSWIDTH_8_BYTES);
	dd->residue_granularity = DMA_RESIDUE_GRANULARITY_BURST;
	dd->device_alloc_chan_resources = sim_dma_alloc_chan_resources;
	dd->device_free_chan_resources = sim_dma_free_chan_resources;
	dd->device_prep_peripheral_dma_vec = sim_dma_prep_vec;
	dd->device_prep_slave_sg = sim_dma_prep_sg;
	dd->device_config = sim_dma_config;
	dd->device_issue_pending = sim_dma_issue_pending;
	dd->device_tx_status = sim_dma_tx_status;
	dd->device_terminate_all = sim_dma_terminate_all;
	dd->device_synchronize = sim_dma_synchronize;
	INIT_LIST_HEAD(&dd->channels);

	for (i = 0; i < n; i++) {
		map[i].devname = dev_name(dev);
		map[i].slave = chans[i]->name;
		map[i].param = chans[i];
		chans[i]->chan.device = dd;
		list_add_tail(&chans[i]->chan.device_node, &dd->channels);

		thread = kthread_run(sim_dma_thread, chans[i], SIM_NAME "/%s",
				     chans[i]->name);
		if (IS_ERR(thread))
			return PTR_ERR(thread);
		ret = devm_add_action_or_reset(dev, sim_dma_stop_thread, thread);
		if (ret)
			return ret;
	}
	dd->filter.map = map;
	dd->filter.mapcnt = n;
	dd->filter.fn = sim_dma_filter;

	ret = dma_async_device_register(dd);
	if (ret)
		return ret;

	/*
	 * The clients are in this module too. As its owner we would hold a
	 * reference to ourselves for every channel and could never be unloaded.
	 */
	dd->owner = NULL;

	return devm_add_action_or_reset(dev, sim_dma_unregister, dd);
}
