#include "monitor/memory_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "machine/machine.h"
#include "monitor/guest_view.h"

namespace limen::monitor {
namespace {

constexpr uint64_t kStep = memory::kPageSize;

/// `read(address, bytes)`: false for what is not there.
Result<> save(uint64_t address, uint64_t size, const std::string& path,
              const std::function<bool(uint64_t, std::span<std::byte>)>& read) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"),
                                                             &std::fclose);
  if (!file) return fail_errno(errno, fmt::format("Could not open '{}'", path));
  std::vector<std::byte> bytes(kStep);
  for (uint64_t done = 0; done < size;) {
    const uint64_t count = std::min(size - done, kStep - (address + done) % kStep);
    const auto part = std::span(bytes).first(count);
    if (!read(address + done, part))
      return fail("Invalid addr {:#018x}/size {} specified", address, size);
    if (std::fwrite(part.data(), 1, part.size(), file.get()) != part.size())
      return fail("An IO error has occurred");
    done += count;
  }
  if (std::fflush(file.get()) != 0) return fail("An IO error has occurred");
  return {};
}

}  // namespace

Result<> save_linear_memory(machine::Machine& machine, unsigned index, uint64_t address,
                            uint64_t size, const std::string& path) {
  Result<> outcome;
  machine.with_processors_held([&] {
    const auto state = machine.processors()[index]->vcpu().state();
    const GuestView view(*machine.memory(), state);
    outcome = save(address, size, path, [&](uint64_t at, std::span<std::byte> into) {
      return view.read_linear(at, into);
    });
  });
  return outcome;
}

Result<> save_physical_memory(machine::Machine& machine, uint64_t address, uint64_t size,
                              const std::string& path) {
  if (machine.memory() == nullptr) return fail("this machine has no memory");
  // Above RAM there is nothing worth a file that never ends.
  if (const uint64_t most = machine.memory()->size() + (uint64_t{4} << 30);
      size > most || address > most - size)
    return fail("Invalid addr {:#018x}/size {} specified", address, size);
  return save(address, size, path, [&](uint64_t at, std::span<std::byte> into) {
    // What is not RAM reads as zeros, as with QEMU.
    if (!machine.memory()->read(GuestPhysicalAddress{at}, into))
      std::ranges::fill(into, std::byte{0});
    return true;
  });
}

}  // namespace limen::monitor
