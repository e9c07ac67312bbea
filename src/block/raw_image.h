// A raw image: a file or block device whose bytes are the disk's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/loop_thread.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "block/block_device.h"
#include "block/uring_queue.h"
#include "block/worker_pool.h"

namespace limen::block {

/// The meanings of QEMU's cache= (qemu-system-x86_64(1), -drive).
enum class CacheMode : uint8_t {
  kWriteback,     ///< Host page cache; a guest flush is fdatasync.
  kNone,          ///< O_DIRECT; a guest flush is fdatasync.
  kWritethrough,  ///< Host page cache; every write is on the disk before it is done.
  kDirectSync,    ///< O_DIRECT and every write is on the disk before it is done.
  kUnsafe,        ///< Host page cache; guest flushes are ignored.
};
Result<CacheMode> parse_cache_mode(std::string_view text);

/// By what means requests are made, QEMU's aio=.
enum class AioMode : uint8_t {
  kAutomatic,  ///< What the page cache can do at once, at once; what can wait, by io_uring; what
               ///< the kernel would give a thread anyway (flushes and the like), by worker threads.
  kThreads,    ///< Worker threads alone.
  kNative,     ///< As kIoUring; needs O_DIRECT.
  kIoUring,    ///< As kAutomatic, and said when it cannot be had.
};
Result<AioMode> parse_aio_mode(std::string_view text);

struct OpenOptions {
  bool read_only = false;
  CacheMode cache = CacheMode::kWriteback;
  AioMode aio = AioMode::kAutomatic;
  bool discard_unmap = true;  ///< false: discards are done without effect.
  bool lock = true;           ///< false: another process may have it open (qemu-img's -U).
  unsigned threads = 4;
};

class RawImage : public BlockDevice {
 public:
  /// Errors name the path and what is wrong: missing, unreadable, a directory, not a multiple of
  /// 512 bytes, in use by another process, a file system without O_DIRECT.
  static Result<std::unique_ptr<RawImage>> open(const std::string& path,
                                                const OpenOptions& options);
  /// Waits for what was submitted.
  ~RawImage() override;

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return options_.read_only; }
  [[nodiscard]] bool supports_discard() const override { return !options_.read_only; }
  void submit(Request request) override;
  Result<> drain() override;
  void run_on(LoopThread& thread) override;
  Result<> resize(uint64_t size) override;
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Whether requests may go by io_uring; known once the first did, or drain() was called.
  [[nodiscard]] bool uses_io_uring() const { return ring_ != nullptr; }

 private:
  RawImage() = default;
  void set_up_ring();
  bool direct() const { return cached_fd_.valid(); }
  int check(const Request& request, uint64_t& length) const;
  bool done_at_once(Request& request, uint64_t length);
  bool goes_by_ring(const Request& request, uint64_t length);
  int perform(const Request& request);
  int transfer(bool write, const std::vector<iovec>& buffers, uint64_t offset, uint64_t length);
  int transfer_bounced(bool write, const std::vector<iovec>& buffers, uint64_t offset,
                       uint64_t length);
  int discard(uint64_t offset, uint64_t length);
  int write_zeroes(uint64_t offset, uint64_t length, bool may_unmap);
  int finish_write(int error);
  int flush();

  std::string path_;
  OpenOptions options_;
  UniqueFd fd_;
  UniqueFd cached_fd_;  ///< With O_DIRECT only: the same file through the page cache.
  std::atomic<uint64_t> size_ = 0;
  size_t offset_alignment_ = 512;  ///< That O_DIRECT wants of offset and length.
  size_t memory_alignment_ = 512;  ///< That O_DIRECT wants of buffers.
  bool regular_file_ = true;
  std::atomic<bool> punch_hole_works_ = true;
  std::atomic<bool> zero_range_works_ = true;
  std::atomic<bool> write_back_failed_ = false;
  std::atomic<bool> quick_reads_ = true;   ///< The file system has RWF_NOWAIT for reads,
  std::atomic<bool> quick_writes_ = true;  ///< and for writes.
  std::once_flag ring_asked_;
  LoopThread* thread_ = nullptr;            ///< That of run_on(), or own_thread_.
  std::unique_ptr<LoopThread> own_thread_;  ///< Without run_on().
  std::unique_ptr<UringQueue> owned_ring_;
  std::atomic<UringQueue*> ring_ = nullptr;  ///< Null until asked for, or where there is none.
  std::unique_ptr<WorkerPool> workers_;
};

}  // namespace limen::block
