#include "conformance/soft_processor.h"

#include <algorithm>
#include <cstring>

#include "conformance/guest_tables.h"
#include "conformance/soft_guest.h"

namespace limen::conformance {

struct SoftProcessor::Guest : SoftGuest {
  using SoftGuest::SoftGuest;
  void load_memory(const Trial& trial, const Image& image);
};

void SoftProcessor::Guest::load_memory(const Trial& trial, const Image& image) {
  std::memcpy(host(kWritablePagesStart), image.data(), image.size());
  for (const Patch& patch : trial.patches)
    std::memcpy(host(kWritablePagesStart + patch.offset), patch.bytes.data(), patch.size);
  std::byte* code = host(kCodePage);
  std::memset(code, 0xCC, kPage);
  const uint64_t offset = trial.before.rip - kCodeAddress;
  std::memcpy(code + offset, trial.code.data(),
              std::min<uint64_t>(trial.code_size, kPage - offset));
  ram->note_written({kCodePage}, kPage);
}

Result<std::unique_ptr<SoftProcessor>> SoftProcessor::create(
    std::span<const uint8_t> read_only_page, Tier tier) {
  constexpr size_t kCodeCacheSize = size_t{4} << 20;
  auto guest = std::make_unique<Guest>(LIMEN_TRY(SoftGuest::create_memory()),
                                       tier == Tier::kTranslator ? kCodeCacheSize : 0);
  std::ranges::copy(std::as_bytes(read_only_page), guest->host(kReadOnlyPage));
  return std::unique_ptr<SoftProcessor>(new SoftProcessor(std::move(guest)));
}

SoftProcessor::SoftProcessor(std::unique_ptr<Guest> guest) : guest_(std::move(guest)) {}
SoftProcessor::~SoftProcessor() = default;

void SoftProcessor::run(const Trial& trial, const Image& image, Outcome& outcome) {
  guest_->load_memory(trial, image);
  guest_->load_registers(trial.before);
  guest_->exit_ports.hit = false;
  (void)guest_->runner.run();
  guest_->store_outcome(outcome);
  std::memcpy(outcome.image.data(), guest_->host(kWritablePagesStart), outcome.image.size());
}

}  // namespace limen::conformance
