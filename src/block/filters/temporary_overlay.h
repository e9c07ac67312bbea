// What a machine writes to a disk that is to stay as it is: -snapshot and snapshot=on.
//
// Writes go to a sparse file that has no name, at the same place as in the disk; a bit for each
// sector says where its content is. A sector is the least that is written, so nothing has to be
// copied up.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "block/filters/filter.h"

namespace limen::block {

class TemporaryOverlay final : public Filter {
 public:
  /// The file is made in $TMPDIR, or /var/tmp. Its content is gone with this object.
  static Result<std::unique_ptr<TemporaryOverlay>> create(std::unique_ptr<BlockDevice> below);

  [[nodiscard]] bool read_only() const override { return false; }
  [[nodiscard]] bool supports_discard() const override { return true; }
  void submit(Request request) override;
  Result<> drain() override;
  void run_on(LoopThread& thread) override;
  Result<> resize(uint64_t) override { return fail("a disk with snapshot=on cannot be resized"); }

 private:
  /// Sectors that one part of the map stands for; parts are made when they are first written.
  static constexpr uint64_t kSectorsPerPart = 1 << 15;
  struct Part {
    std::atomic<uint64_t> words[kSectorsPerPart / 64];
  };

  TemporaryOverlay(std::unique_ptr<BlockDevice> below, std::unique_ptr<BlockDevice> file);
  void read(Request request);
  void mark_written(uint64_t offset, uint64_t length);
  /// Whether the sectors from `offset` on were written; `length` becomes that of the run, at most
  /// what it was.
  [[nodiscard]] bool written(uint64_t offset, uint64_t& length) const;

  std::unique_ptr<BlockDevice> file_;
  std::mutex mutex_;
  std::vector<std::atomic<Part*>> map_;
  std::vector<std::unique_ptr<Part>> parts_;  // guarded by mutex_
};

}  // namespace limen::block
