// The small guests of programs/, as bytes: each says what it does.
#pragma once

#include <cstddef>
#include <span>

namespace limen::kvm::programs {

std::span<const std::byte> real();
std::span<const std::byte> long_mode();
std::span<const std::byte> compute();

}  // namespace limen::kvm::programs
