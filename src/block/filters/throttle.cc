#include "block/filters/throttle.h"

#include <algorithm>

namespace limen::block {
namespace {

/// The part of a second for which a limit without a maximum may be passed.
constexpr double kBurst = 0.1;

}  // namespace

void LeakyBucket::leak(double seconds) {
  level_ = std::max(0.0, level_ - static_cast<double>(limit_.average) * seconds);
  burst_level_ = std::max(0.0, burst_level_ - static_cast<double>(limit_.maximum) * seconds);
}

void LeakyBucket::fill(double units) {
  if (limit_.average == 0) return;
  level_ += units;
  if (limit_.length > 1) burst_level_ += units;
}

double LeakyBucket::wait() const {
  if (limit_.average == 0) return 0;
  const auto average = static_cast<double>(limit_.average);
  const auto maximum = static_cast<double>(limit_.maximum);
  const double room =
      limit_.maximum == 0 ? average * kBurst : maximum * static_cast<double>(limit_.length);
  if (level_ > room) return (level_ - room) / average;
  if (limit_.length > 1) {
    const double burst_room = maximum * kBurst;
    if (burst_level_ > burst_room) return (burst_level_ - burst_room) / maximum;
  }
  return 0;
}

Result<std::shared_ptr<ThrottleGroup>> ThrottleGroup::create(const ThrottleLimits& limits) {
  std::shared_ptr<ThrottleGroup> group(new ThrottleGroup);
  LIMEN_TRY(group->set_limits(limits));
  return group;
}

ThrottleGroup::~ThrottleGroup() {
  if (timer_ != nullptr) timer_->cancel();
}

Result<> ThrottleGroup::set_limits(const ThrottleLimits& limits) {
  LIMEN_TRY(check_limits(limits));
  {
    const std::lock_guard lock(mutex_);
    if (limits.any() && thread_ == nullptr) {
      thread_ = LIMEN_TRY(LoopThread::create("throttle"));
      timer_ = std::make_unique<Timer>(thread_->loop(), [this] { advance(); });
    }
    limits_ = limits;
    const auto each = all_limits(limits);
    for (size_t i = 0; i < each.size(); ++i) {
      buckets_[i] = {};
      buckets_[i].set(*each[i]);
    }
    leaked_ = Clock::now();
    limited_ = limits.any();
  }
  advance();
  return {};
}

ThrottleLimits ThrottleGroup::limits() const {
  const std::lock_guard lock(mutex_);
  return limits_;
}

double ThrottleGroup::wait_locked(Direction direction) {
  double longest = 0;
  for (const size_t first : {0, 3})
    longest = std::max({longest, buckets_[first].wait(), buckets_[first + 1 + direction].wait()});
  return longest;
}

void ThrottleGroup::account_locked(Direction direction, uint64_t bytes) {
  double operations = 1;
  if (limits_.iops_size != 0)
    operations = std::max(1.0, static_cast<double>(bytes) / static_cast<double>(limits_.iops_size));
  for (const size_t which : {size_t{0}, size_t{1} + direction}) {
    buckets_[which].fill(static_cast<double>(bytes));
    buckets_[3 + which].fill(operations);
  }
}

void ThrottleGroup::advance() {
  std::vector<Waiting> ready;
  double next = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    const double elapsed = std::chrono::duration<double>(now - leaked_).count();
    leaked_ = now;
    for (auto& bucket : buckets_) bucket.leak(elapsed);
    for (const Direction direction : {kReads, kWrites}) {
      auto& queue = waiting_[direction];
      double wait = 0;
      while (!queue.empty() && (wait = wait_locked(direction)) <= 0) {
        account_locked(direction, queue.front().bytes);
        ready.push_back(std::move(queue.front()));
        queue.pop_front();
      }
      if (!queue.empty()) next = next == 0 ? wait : std::min(next, wait);
    }
    if (next > 0)
      timer_->arm(now + std::chrono::ceil<Clock::duration>(std::chrono::duration<double>(next)));
  }
  for (auto& item : ready) item.owner->go(std::move(item.request));
}

Throttle::~Throttle() { Throttle::release(); }

void Throttle::submit(Request request) {
  ThrottleGroup* const group = group_;
  if (request.kind == Request::Kind::kFlush || unlimited_ != 0 || !group->limited_)
    return go(std::move(request));
  const bool read = request.kind == Request::Kind::kRead;
  uint64_t bytes = request.length;
  if (!request.buffers.empty()) {
    bytes = 0;
    for (const iovec& buffer : request.buffers) bytes += buffer.iov_len;
  }
  {
    const std::lock_guard lock(group->mutex_);
    group->waiting_[read ? ThrottleGroup::kReads : ThrottleGroup::kWrites].push_back(
        {this, std::move(request), bytes});
  }
  // It came too late for the release() of those who left the group meanwhile, or who drain.
  if (group_ != group || unlimited_ != 0) return release();
  group->advance();
}

void Throttle::join(std::shared_ptr<ThrottleGroup> group) {
  if (group.get() == group_) return;
  {
    const std::lock_guard lock(groups_mutex_);
    group_ = group.get();
    if (std::ranges::find(groups_, group) == groups_.end()) groups_.push_back(std::move(group));
  }
  release();
}

void Throttle::release() {
  std::vector<Request> own;
  {
    const std::lock_guard groups_lock(groups_mutex_);
    for (const auto& group : groups_) {
      const std::lock_guard lock(group->mutex_);
      for (auto& queue : group->waiting_) {
        std::deque<ThrottleGroup::Waiting> others;
        for (auto& item : queue) {
          if (item.owner == this)
            own.push_back(std::move(item.request));
          else
            others.push_back(std::move(item));
        }
        queue = std::move(others);
      }
    }
  }
  for (auto& request : own) go(std::move(request));
}

Result<> Throttle::drain() {
  ++unlimited_;
  release();
  auto drained = Filter::drain();
  --unlimited_;
  return drained;
}

void Throttle::give_up_held(bool on) {
  if (on) {
    ++unlimited_;
    release();
  } else {
    --unlimited_;
  }
  Filter::give_up_held(on);
}

}  // namespace limen::block
