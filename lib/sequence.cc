#include "quire/sequence.h"

#include <utility>

#include "lib/cache_core.h"
#include "lib/check.h"
#include "lib/out_of_memory.h"

namespace quire {

namespace {
constexpr const char* kEmpty = "the sequence is empty: moved from, or never started";
}  // namespace

Sequence::Sequence(Sequence&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)),
      slot_(other.slot_),
      generation_(other.generation_) {}

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  std::swap(core_, other.core_);
  std::swap(slot_, other.slot_);
  std::swap(generation_, other.generation_);
  if (this != &other) Sequence gone(std::move(other));
  return *this;
}

Sequence::~Sequence() {
  if (core_ != nullptr) core_->Drop(*this);
}

absl::Status Sequence::Reserve(int32_t tokens) {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  Sequence* const self[] = {this};
  const int32_t counts[] = {tokens};
  return core_->ReserveAll(self, counts);
}

absl::Status Sequence::Commit(std::span<const TokenId> tokens) {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  Sequence* const self[] = {this};
  QUIRE_CHECK(tokens.size() <= INT32_MAX, "commit past capacity");
  const int32_t counts[] = {static_cast<int32_t>(tokens.size())};
  return core_->CommitAll(self, tokens, counts);
}

absl::Status Sequence::Truncate(int32_t length) {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->Truncate(*this, length);
}

absl::StatusOr<Sequence> Sequence::Fork() const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return OrBare(absl::StatusCode::kResourceExhausted, [&] { return core_->Fork(*this); });
}

int32_t Sequence::length() const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->length(*this);
}

int32_t Sequence::capacity() const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->capacity(*this);
}

int32_t Sequence::hit_tokens() const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->hit_tokens(*this);
}

int32_t Sequence::valid_length() const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->valid_length(*this);
}

std::span<const PageId> Sequence::pages(GroupId group) const {
  QUIRE_CHECK(core_ != nullptr, kEmpty);
  return core_->pages(*this, group);
}

}  // namespace quire
