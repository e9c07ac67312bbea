// What the tests of kvm/ share: the host's /dev/kvm, without which they are skipped.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "kvm/device.h"

namespace limen::kvm {

class KvmTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = Device::open();
    if (!device) GTEST_SKIP() << "/dev/kvm is not there: " << device.error().message;
    device_ = *std::move(device);
  }

  std::shared_ptr<Device> device_;
};

}  // namespace limen::kvm
