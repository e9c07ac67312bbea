// What the processors of a machine must agree on when one decodes code that another may write.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "soft/mmu/attention.h"
#include "soft/mmu/code_map.h"
#include "soft/mmu/tlb.h"

namespace limen::soft {

/// A store through a TLB entry with a write tag tells nobody, so no processor may keep one for a
/// page from which any of them decodes. Each notes the pages for which it fills a write tag before
/// it looks whether they hold code; one that decodes marks the code before it looks who may write
/// there, and has those drop their tags before it reads the first byte. A processor that is asked
/// serves the request at its next look at `attention`; for one that runs no guest code, whoever
/// asks does it. docs/engine.md, "Several processors", says why this is enough.
///
/// With one member nothing but the map is used.
class CodeSharing {
 public:
  static constexpr unsigned kMaxMembers = 64;

  explicit CodeSharing(uint64_t ram_pages) : map_(ram_pages), ram_pages_(ram_pages) {}
  CodeSharing(const CodeSharing&) = delete;
  CodeSharing& operator=(const CodeSharing&) = delete;

  /// Adds processor `index` (below kMaxMembers). Before any of them runs.
  void join(unsigned index, Tlb& tlb);
  /// What makes it look up from guest code.
  void set_attention(unsigned index, Attention& attention) {
    members_[index]->attention = &attention;
  }
  [[nodiscard]] bool is_shared() const { return writers_ != nullptr; }
  [[nodiscard]] CodeMap& map() { return map_; }

  /// Whether `index` may fill a write tag for the page; to be asked again for each one. A page that
  /// it only reads is not noted for it. Leaves vector registers alone.
  bool may_write(unsigned index, uint32_t ram_page, Access access) noexcept {
    if (map_.holds_code(ram_page)) return false;
    if (!is_shared()) return true;
    const uint64_t own = uint64_t{1} << index;
    std::atomic<uint64_t>& writers = writers_[ram_page];
    if ((writers.load(std::memory_order_relaxed) & own) == 0) {
      if (access != Access::kWrite) return false;
      writers.fetch_or(own);
    }
    if (!map_.holds_code(ram_page)) return true;
    give_up(index, ram_page);
    return false;
  }

  /// Says that `index` is about to decode at `offset` of the page. When it returns, no processor
  /// has a write tag for the page, or the page's code generation is another than it was before the
  /// call. May wait for the others.
  void begin_decoding(unsigned index, uint32_t ram_page, uint32_t offset);
  /// Says that `index` changed code: the others drop what they made of it before they go on.
  void announce_change(unsigned index);

  /// Processor `index` begins and ends to run guest code. It stands outside at first.
  void enter(unsigned index);
  void leave(unsigned index);
  /// Whether others wait for serve().
  [[nodiscard]] bool is_asked(unsigned index) const {
    return members_[index]->asked.load(std::memory_order_acquire);
  }
  /// Does what others asked of `index`, on its own thread, between two instructions.
  void serve(unsigned index);

  /// What was counted, for a person.
  [[nodiscard]] std::string report() const;

 private:
  struct Member {
    Tlb* tlb = nullptr;
    Attention* attention = nullptr;
    std::mutex mutex;
    bool outside = true;             // guarded by mutex; while it is, others may touch `tlb`
    std::vector<uint32_t> requests;  // guarded by mutex: pages to drop write tags of
    std::atomic<bool> asked = false;
  };

  void give_up(unsigned index, uint32_t ram_page) noexcept {
    members_[index]->tlb->protect(ram_page);
    writers_[ram_page].fetch_and(~(uint64_t{1} << index));
  }
  void serve_locked(unsigned index);
  void ask(unsigned index, uint32_t ram_page);

  CodeMap map_;
  const uint64_t ram_pages_;
  std::array<std::unique_ptr<Member>, kMaxMembers> members_;
  unsigned member_count_ = 0;
  /// Per page of RAM, a bit per processor that may have a write tag; nullptr while there is but
  /// one.
  std::unique_ptr<std::atomic<uint64_t>[]> writers_;
  std::atomic<uint64_t> asked_count_ = 0;
  std::atomic<uint64_t> served_for_others_ = 0;
  std::atomic<uint64_t> waited_tsc_ = 0;
  std::atomic<uint64_t> changes_ = 0;
};

}  // namespace limen::soft
