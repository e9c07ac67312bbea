#include "cli/image/copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "block/buffers.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t kPiece = uint64_t{2} << 20;

class Copier {
 public:
  Copier(const std::vector<std::unique_ptr<block::Layer>>& sources, block::Layer& target,
         const CopyOptions& options, Progress& progress)
      : sources_(sources),
        target_(target),
        qcow2_(dynamic_cast<block::qcow2::Image*>(&target)),
        options_(options),
        progress_(progress) {
    for (const auto& source : sources) all_ += source->size();
  }

  Result<> run() {
    const unsigned threads = std::clamp(std::min(options_.threads, 2 * std::thread::hardware_concurrency()), 1u, 16u);
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back([this] { serve(); });
    serve();
    for (auto& thread : others) thread.join();
    if (failure_) return std::unexpected(std::move(*failure_));
    return {};
  }

 private:
  /// A run of bytes of one kind.
  struct Piece {
    uint64_t number = 0;
    block::Layer* source = nullptr;
    uint64_t source_offset = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool zero = false;
    bool skip = false;
  };

  void serve() {
    auto memory = block::aligned_memory(kPiece);
    while (true) {
      std::optional<Piece> piece;
      {
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        auto next = memory == nullptr ? fail("no memory for {} bytes", kPiece) : next_piece();
        if (!next) {
          give_up(std::move(next).error());
          return;
        }
        piece = *next;
      }
      if (!piece) return;
      if (auto done = copy_piece(*piece, memory.get()); !done) {
        const std::lock_guard lock(mutex_);
        give_up(std::move(done).error());
        return;
      }
      const std::lock_guard lock(mutex_);
      copied_ += piece->length;
      progress_.show(copied_, all_);
    }
  }

  // mutex_ is held
  void give_up(Error error) {
    if (!failure_) failure_ = std::move(error);
    turn_changed_.notify_all();
  }

  // mutex_ is held
  Result<std::optional<Piece>> next_piece() {
    while (index_ < sources_.size() && at_ == sources_[index_]->size()) {
      base_ += at_;
      at_ = 0;
      ++index_;
    }
    if (index_ == sources_.size()) return std::nullopt;
    block::Layer& source = *sources_[index_];
    Piece piece{.number = next_number_++, .source = &source, .source_offset = at_, .offset = base_ + at_};
    const uint64_t left = source.size() - at_;
    bool data = true;
    if (options_.sparse != 0 || options_.target_has_backing) {
      if (options_.target_has_backing) {
        const auto extent = LIMEN_TRY(source.extent(at_, left));
        piece.skip = !extent.present;
        piece.zero = extent.present && extent.zero;
        piece.length = extent.length;
      } else {
        const auto found = LIMEN_TRY(block::chain_extent(source, nullptr, at_, left));
        piece.zero = found.extent.zero;
        piece.length = found.extent.length;
      }
      data = !piece.skip && !piece.zero;
    } else {
      piece.length = left;
    }
    // Compressed clusters are written whole.
    const uint64_t unit = options_.compress ? qcow2_->header().cluster_size() : 512;
    if (!data && piece.length < left) {
      const uint64_t end = (piece.offset + piece.length) / unit * unit;
      if (end > piece.offset)
        piece.length = end - piece.offset;
      else
        data = true;
    }
    if (data) {
      piece.zero = piece.skip = false;
      // To a boundary, so that the next ones begin at one.
      const uint64_t limit = kPiece - piece.offset % kPiece;
      if (options_.compress) piece.length = std::max(piece.length, unit - piece.offset % unit);
      piece.length = std::min({piece.length, limit, left});
      if (options_.compress && piece.length < left && piece.length > unit)
        piece.length = (piece.offset + piece.length) / unit * unit - piece.offset;
    }
    at_ += piece.length;
    return piece;
  }

  Result<> copy_piece(const Piece& piece, std::byte* memory) {
    if (piece.skip || piece.zero) {
      wait_for_turn(piece);
      int error = 0;
      if (piece.zero && (!options_.target_is_zero || options_.target_has_backing))
        error = target_.write_zeroes(piece.offset, piece.length, true);
      end_turn(piece);
      if (error != 0) return failed("writing", piece, error);
      return {};
    }
    const std::span bytes(memory, static_cast<size_t>(piece.length));
    const iovec buffer = block::buffer_over(bytes);
    if (const int error = piece.source->read(piece.source_offset, {&buffer, 1}); error != 0)
      return failed("reading", piece, error);
    const int error = options_.compress ? write_compressed(piece, bytes) : write_plain(piece, bytes);
    if (error != 0) return failed("writing", piece, error);
    return {};
  }

  int write_plain(const Piece& piece, std::span<std::byte> bytes) {
    wait_for_turn(piece);
    int error = 0;
    const uint64_t grain = std::max<uint64_t>(options_.sparse / 512 * 512, 512);
    for (uint64_t from = 0; from < bytes.size() && error == 0;) {
      uint64_t to = from;
      bool zero = false;
      if (options_.sparse == 0) {
        to = bytes.size();
      } else {
        // Runs of grains that are all zero, or not.
        for (; to < bytes.size(); to += grain) {
          const auto part = bytes.subspan(to, std::min<uint64_t>(grain, bytes.size() - to));
          const bool nothing = block::all_zero(std::span<const std::byte>(part));
          if (to == from) zero = nothing;
          if (nothing != zero) break;
        }
        to = std::min<uint64_t>(to, bytes.size());
      }
      const iovec buffer = block::buffer_over(bytes.subspan(from, to - from));
      if (!zero)
        error = target_.write(piece.offset + from, {&buffer, 1});
      else if (!options_.target_is_zero || options_.target_has_backing)
        error = target_.write_zeroes(piece.offset + from, to - from, true);
      from = to;
    }
    end_turn(piece);
    return error;
  }

  int write_compressed(const Piece& piece, std::span<const std::byte> bytes) {
    const uint64_t cluster = qcow2_->header().cluster_size();
    struct Part {
      std::span<const std::byte> plain;
      std::vector<std::byte> packed;
      bool zero;
    };
    std::vector<Part> parts;
    for (uint64_t at = 0; at < bytes.size(); at += cluster) {
      const auto plain = bytes.subspan(at, std::min<uint64_t>(cluster, bytes.size() - at));
      const bool zero = options_.sparse != 0 && block::all_zero(plain);
      parts.push_back({plain, zero ? std::vector<std::byte>{} : qcow2_->pack_cluster(plain), zero});
    }
    wait_for_turn(piece);
    int error = 0;
    uint64_t at = piece.offset;
    for (const auto& part : parts) {
      if (error != 0) break;
      const iovec buffer = {const_cast<std::byte*>(part.plain.data()), part.plain.size()};
      if (!part.zero && part.packed.empty())
        error = target_.write(at, {&buffer, 1});
      else if (!part.zero)
        error = qcow2_->write_packed(at, part.packed);
      else if (!options_.target_is_zero || options_.target_has_backing)
        error = target_.write_zeroes(at, part.plain.size(), true);
      at += part.plain.size();
    }
    end_turn(piece);
    return error;
  }

  void wait_for_turn(const Piece& piece) {
    if (options_.out_of_order) return;
    std::unique_lock lock(mutex_);
    turn_changed_.wait(lock, [&] { return turn_ == piece.number || failure_; });
  }
  void end_turn(const Piece& piece) {
    if (options_.out_of_order) return;
    const std::lock_guard lock(mutex_);
    turn_ = piece.number + 1;
    turn_changed_.notify_all();
  }

  Error error_of(std::string_view what, const Piece& piece, int error) const {
    const auto& path = what == "reading" ? piece.source->path() : target_.path();
    return fail_errno(error, fmt::format("error while {} at byte {} of '{}'", what, piece.offset, path)).error();
  }
  std::unexpected<Error> failed(std::string_view what, const Piece& piece, int error) const {
    return std::unexpected(error_of(what, piece, error));
  }

  const std::vector<std::unique_ptr<block::Layer>>& sources_;
  block::Layer& target_;
  block::qcow2::Image* const qcow2_;
  const CopyOptions options_;
  Progress& progress_;
  uint64_t all_ = 0;

  std::mutex mutex_;
  std::condition_variable turn_changed_;
  size_t index_ = 0;           // guarded by mutex_, as all that follows
  uint64_t at_ = 0;            // within the source
  uint64_t base_ = 0;          // where it begins in the target
  uint64_t next_number_ = 0;
  uint64_t turn_ = 0;
  uint64_t copied_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

Result<> copy(const std::vector<std::unique_ptr<block::Layer>>& sources, block::Layer& target,
              const CopyOptions& options, Progress& progress) {
  return Copier(sources, target, options, progress).run();
}

}  // namespace limen::cli::image
