// The work behind check.h: counts who uses which cluster.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "block/qcow2/check.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {

class Checker {
 public:
  Checker(Image& image, std::function<void(const std::string&)> report)
      : image_(image), header_(image.header_), report_(std::move(report)) {}

  Result<CheckResult> run(Fix fix);

 private:
  Result<> count_all();
  Result<> count_l1(uint64_t offset, uint64_t entries, bool active);
  Result<> count_l2(uint64_t table, uint64_t guest, bool active);
  void count_entry(const L2Entry& entry, uint64_t table, uint64_t index, uint64_t& next);
  Result<> count_refcount_blocks();
  Result<> count_bitmaps();
  void use(uint64_t offset, uint64_t bytes, const std::string& what);
  Result<> compare(Fix fix);
  Result<> check_copied(bool fix);
  Result<> check_copied_table(uint64_t table, bool fix);
  Result<bool> copied_is_wrong(uint64_t entry, const std::string& what, bool fix);
  Result<> rebuild();
  void corrupt(const std::string& message) {
    ++result_.corruptions;
    report_("ERROR " + message);
  }

  Image& image_;
  Header& header_;
  std::function<void(const std::string&)> report_;
  CheckResult result_;
  std::vector<uint32_t> users_;          // per cluster
  std::vector<uint32_t> refcount_users_; // of these, the refcount table and its blocks
  uint64_t beyond_repair_ = 0;           // corruptions that counting again does not mend
  bool counting_refcounts_ = false;
};

}  // namespace limen::block::qcow2
