#pragma once

namespace iio_bridge {

/**
 * Keeps what the calling thread runs on from being paged out: the code of the process, its native heap, and the thread's
 * stack. Not all of the process (mlockall): the JavaScript engine gives pages of its own back with a call that locked pages
 * refuse, and aborts. 0 or a negative errno.
 */
int lockMemory();

}  // namespace iio_bridge
