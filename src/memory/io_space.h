// Routing of port and memory-mapped I/O to the devices that claim the addresses.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "memory/doorbell.h"
#include "memory/late_writes.h"

namespace limen::memory {

/// Something that answers reads and writes at an offset into a range it claims. Called on vCPU
/// threads, several at once: an implementation has its own lock.
class IoHandler {
 public:
  virtual ~IoHandler() = default;
  /// `size` is 1, 2, 4 or 8 bytes; the value is in the low `size` bytes.
  virtual uint64_t io_read(uint64_t offset, unsigned size) = 0;
  virtual void io_write(uint64_t offset, unsigned size, uint64_t value) = 0;
  /// Its doorbells, asked for when it claims addresses.
  [[nodiscard]] virtual std::span<const Doorbell> doorbells() const { return {}; }
  /// Writes that need not come at once, asked for likewise.
  [[nodiscard]] virtual std::span<const LateWrites> late_writes() const { return {}; }
};

/// One space of addresses: the 64 KiB of I/O ports, or everything on the physical bus that is not
/// RAM. Look-ups take no lock; claims may come and go while vCPUs run (PCI BARs move).
class IoSpace {
 public:
  explicit IoSpace(std::string name);
  ~IoSpace();

  /// Routes [start, start + size) to `handler` (which is given offsets from `start`). Where ranges
  /// overlap, the one claimed last wins. `owner` names the claim in messages.
  void claim(uint64_t start, uint64_t size, IoHandler& handler, std::string owner);
  /// Undoes the claim that starts at `start` with that handler; a claim that is not there is
  /// ignored. Accesses under way on other threads may still finish afterwards.
  void release(uint64_t start, IoHandler& handler);

  /// Who takes doorbells from now on; nullptr: nobody. It outlives the space. Before anything that
  /// has doorbells claims addresses.
  void set_doorbell_taker(DoorbellTaker* taker) { doorbell_taker_ = taker; }
  [[nodiscard]] bool takes_doorbells() const { return doorbell_taker_ != nullptr; }
  /// The same for late writes.
  void set_late_write_taker(LateWriteTaker* taker) { late_write_taker_ = taker; }
  /// Gives the handlers all that processors wrote until now. For a handler that looks at what it
  /// was given on its own account; without a lock that handlers need.
  void deliver_late_writes() const {
    if (late_write_taker_ != nullptr) late_write_taker_->deliver();
  }

  /// What is claimed, for a person, in order of claiming.
  struct Claim {
    uint64_t start = 0;
    uint64_t size = 0;
    std::string owner;
  };
  [[nodiscard]] std::vector<Claim> claims() const;

  /// An address that nobody claims reads as all ones and ignores writes. An access goes to whoever
  /// has its first byte if that claim covered the whole of it, as a doubleword at CF8H goes to PCI
  /// though CF9H resets; one that crosses the end of a claim is split into bytes.
  uint64_t read(uint64_t address, unsigned size) const;
  void write(uint64_t address, unsigned size, uint64_t value) const;

 private:
  struct Range;
  class Reader;
  using Table = std::vector<Range>;
  const Range* find(const Table& table, uint64_t address) const;
  void publish(const std::vector<Range>& claims);
  void free_retired() const;

  /// What a taker has of a claim. Kept here: who releases may be at its end, and not to be asked.
  struct Taken {
    uint64_t start = 0;
    const IoHandler* handler = nullptr;
    std::function<void()> give_back;
  };

  std::string name_;
  DoorbellTaker* doorbell_taker_ = nullptr;
  LateWriteTaker* late_write_taker_ = nullptr;
  mutable std::mutex mutex_;
  std::vector<Taken> taken_;                            // guarded by mutex_
  std::vector<Range> claims_;                           // guarded by mutex_, in order of claiming
  std::atomic<const Table*> table_ = nullptr;           // sorted, without overlaps
  mutable std::vector<std::unique_ptr<Table>> tables_;  // guarded by mutex_; the last is in use
  mutable std::atomic<unsigned> readers_ = 0;           // look-ups and accesses under way
  mutable std::atomic<bool> retired_ = false;           // tables_ holds some that were replaced
};

}  // namespace limen::memory
