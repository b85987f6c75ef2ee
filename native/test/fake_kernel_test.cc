// The fake kernel dies of what Linux 6.12 dies of: each of these is a bug that the tests of the product would not see
// otherwise.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <iostream>

#include "../src/fence.h"
#include "../src/poller.h"
#include "../src/uapi.h"
#include "../src/unique_fd.h"
#include "fake_kernel.h"

namespace {

using fake::Endpoint;
using fake::IioBuffer;
using fake::Kernel;
using iio_bridge::Fence;
using iio_bridge::UniqueFd;
namespace uapi = iio_bridge::uapi;

/** Whether `deed` aborts, in a process of its own. */
bool aborts(const std::function<void()>& deed) {
  std::cout.flush();  // or both processes would print it
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    deed();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

bool kills(const std::function<void(Kernel&)>& deed) {
  return aborts([&] {
    Kernel kernel;
    deed(kernel);
    ::_exit(0);
  });
}

int attach(int file, unsigned long request, int dmabuf) { return ::ioctl(file, request, &dmabuf) == 0 ? 0 : -errno; }

int transfer(int endpoint, int dmabuf) {
  uapi::FfsDmabufTransfer request{dmabuf, 0, 4096};
  return ::ioctl(endpoint, uapi::kFfsDmabufTransfer, &request) == 0 ? 0 : -errno;
}

int enqueue(int buffer, int dmabuf) {
  uapi::IioDmabuf request{static_cast<uint32_t>(dmabuf), 0, 4096};
  return ::ioctl(buffer, uapi::kIioDmabufEnqueue, &request) == 0 ? 0 : -errno;
}

struct InRig {
  explicit InRig(Kernel& kernel) : endpoint(kernel.openEndpoint(Endpoint::Direction::kIn)), dmabuf(kernel.makeDmabuf(4096)) {
    attach(endpoint.fd, uapi::kFfsDmabufAttach, dmabuf.fd);
  }
  Kernel::Opened<Endpoint> endpoint;
  Kernel::Opened<fake::Dmabuf> dmabuf;
};

struct AdcRig {
  explicit AdcRig(Kernel& kernel)
      : buffer(kernel.openIioBuffer(IioBuffer::Direction::kInput)), dmabuf(kernel.makeDmabuf(4096)) {
    attach(buffer.fd, uapi::kIioDmabufAttach, dmabuf.fd);
  }
  Kernel::Opened<IioBuffer> buffer;
  Kernel::Opened<fake::Dmabuf> dmabuf;
};

}  // namespace

TEST_SUITE("fake kernel") {
  TEST_CASE("dies of a second TRANSFER while the first is pending, and not of one after it") {
    CHECK(kills([](Kernel& kernel) {
      InRig rig(kernel);
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
    }));
    CHECK_FALSE(kills([](Kernel& kernel) {
      InRig rig(kernel);
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
      rig.endpoint.file->hostTakes();
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
    }));
  }

  TEST_CASE("dies of TRANSFER and DETACH after the controller was unbound") {
    CHECK(kills([](Kernel& kernel) {
      InRig rig(kernel);
      kernel.usb().unbind();
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
    }));
    CHECK(kills([](Kernel& kernel) {
      InRig rig(kernel);
      kernel.usb().unbind();
      attach(rig.endpoint.fd, uapi::kFfsDmabufDetach, rig.dmabuf.fd);
    }));
  }

  TEST_CASE("dies of asking an endpoint's fence after DETACH, or after the endpoint was closed") {
    CHECK(kills([](Kernel& kernel) {
      InRig rig(kernel);
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
      const Fence fence = Fence::exportFrom(rig.dmabuf.fd, uapi::kSyncWrite);
      attach(rig.endpoint.fd, uapi::kFfsDmabufDetach, rig.dmabuf.fd);
      fence.status();
    }));
    CHECK(kills([](Kernel& kernel) {
      InRig rig(kernel);
      transfer(rig.endpoint.fd, rig.dmabuf.fd);
      const Fence fence = Fence::exportFrom(rig.dmabuf.fd, uapi::kSyncWrite);
      UniqueFd{rig.endpoint.fd};
      fence.status();
    }));
  }

  TEST_CASE("dies of closing an endpoint's fence after DETACH if it has been polled") {
    const auto deed = [](bool poll) {
      return [poll](Kernel& kernel) {
        struct Nobody : iio_bridge::PollClient {
          void onReady(int) override {}
        } nobody;
        InRig rig(kernel);
        transfer(rig.endpoint.fd, rig.dmabuf.fd);
        Fence fence = Fence::exportFrom(rig.dmabuf.fd, uapi::kSyncWrite);
        iio_bridge::Poller poller;
        poller.add(fence.fd(), POLLIN, nobody);
        if (poll) poller.wait(0);
        attach(rig.endpoint.fd, uapi::kFfsDmabufDetach, rig.dmabuf.fd);
        fence.close();
      };
    };
    CHECK(kills(deed(true)));
    CHECK_FALSE(kills(deed(false)));
  }

  TEST_CASE("dies of ENQUEUE into a disabled buffer") {
    CHECK(kills([](Kernel& kernel) {
      AdcRig rig(kernel);
      enqueue(rig.buffer.fd, rig.dmabuf.fd);
    }));
    CHECK_FALSE(kills([](Kernel& kernel) {
      AdcRig rig(kernel);
      rig.buffer.file->enable();
      enqueue(rig.buffer.fd, rig.dmabuf.fd);
    }));
  }

  TEST_CASE("dies of read() once a dmabuf was attached") {
    CHECK(kills([](Kernel& kernel) {
      AdcRig rig(kernel);
      char data[8];
      static_cast<void>(::read(rig.buffer.fd, data, sizeof data));
    }));
  }

  TEST_CASE("dies of a read() of ep0 that would answer a control request, and of what is left at its end") {
    CHECK(kills([](Kernel& kernel) {
      const auto ep0 = kernel.openEp0();
      kernel.usb().setup();
      uapi::FfsEvent event;
      static_cast<void>(::read(ep0.fd, &event, sizeof event));
      static_cast<void>(::read(ep0.fd, &event, sizeof event));
    }));
    CHECK(aborts([] { Kernel().makeDmabuf(4096); }));
    CHECK_FALSE(aborts([] { UniqueFd{Kernel().makeDmabuf(4096).fd}; }));
  }

  TEST_CASE("waits for what the real one waits for") {
    Kernel kernel;
    InRig in(kernel);
    const UniqueFd endpoint(in.endpoint.fd), dmabuf(in.dmabuf.fd);
    const auto adc = kernel.openIioBuffer(IioBuffer::Direction::kInput);
    const UniqueFd buffer(adc.fd);
    attach(buffer.get(), uapi::kIioDmabufAttach, dmabuf.get());
    adc.file->enable();
    CHECK(enqueue(buffer.get(), dmabuf.get()) == 0);
    CHECK(enqueue(buffer.get(), dmabuf.get()) == -EBUSY);
    CHECK(transfer(endpoint.get(), dmabuf.get()) == -EBUSY);
    const Fence filled = Fence::exportFrom(dmabuf.get(), uapi::kSyncRead);
    CHECK(filled.status() == 0);
    adc.file->transferBlock();
    CHECK(filled.status() == 1);
    CHECK(transfer(endpoint.get(), dmabuf.get()) == 0);
    CHECK(enqueue(buffer.get(), dmabuf.get()) == -EBUSY);
    in.endpoint.file->hostTakes();
    CHECK(enqueue(buffer.get(), dmabuf.get()) == 0);
    const Fence aborted = Fence::exportFrom(dmabuf.get(), uapi::kSyncRead);
    adc.file->disable();
    CHECK(aborted.status() == -EINTR);
    CHECK(attach(buffer.get(), uapi::kIioDmabufDetach, dmabuf.get()) == 0);
    in.dmabuf.file.reset();
  }
}
