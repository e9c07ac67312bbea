// The software engine as an accelerator: needs nothing of the host but an x86-64 processor.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"
#include "soft/trace.h"
#include "vcpu/accelerator.h"

namespace limen::soft {

struct SoftOptions {
  /// Bytes of translated code that each vCPU keeps; 0: everything is interpreted.
  size_t code_size = size_t{128} << 20;
  /// Gets what is to be watched; nullptr: nothing.
  std::shared_ptr<Trace> trace = {};
};

/// Whether this host's processor and kernel have what the engine needs (XSAVE, which every x86-64
/// processor has since 2011). The error names what is missing.
Result<> check_host_processor();
/// Whether this process may turn data into code, as a translator does; the error says what to do.
Result<> check_may_make_code();

/// `-accel soft`, where check_host_processor() has nothing against it.
[[nodiscard]] std::unique_ptr<vcpu::Accelerator> make_soft_accelerator(SoftOptions options = {});

}  // namespace limen::soft
