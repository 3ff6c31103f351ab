// Who may share with whom. Two requests share pages only if their namespaces are equal.

#ifndef QUIRE_NAMESPACE_H_
#define QUIRE_NAMESPACE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace quire {

// A set of named fields that are part of every key. Each field is stored with a tag and its length,
// so that no choice of values makes one field look like another: a tenant called like a LoRA
// adapter, or ("org_1", "2345") against ("org_12345", ""), stay apart.
//
// The namespace must come from the serving process, not from the request: whoever can set the
// tenant field to another tenant's value can find out by timing what that tenant has cached.
//
//   Namespace ns;
//   ns.SetTenant(account_id).SetLora(adapter_name);
//   auto sequence = cache->Start(prompt, ns);
//
// A field that was never set differs from one set to "". The order of Set calls does not matter;
// the order of AddMedia calls does not matter either (items are kept sorted by position).
// Media belongs to the whole namespace: two requests with different media share nothing, not even
// the text before it.
class Namespace {
 public:
  Namespace() = default;
  Namespace(const Namespace& other) = default;
  Namespace(Namespace&& other) = default;
  // All or nothing: half of one namespace and half of another would be a third.
  Namespace& operator=(const Namespace& other) { return *this = Namespace(other); }
  Namespace& operator=(Namespace&& other) = default;

  // Calls that allocate throw std::bad_alloc if the heap has run out, as std::string does; the
  // namespace is then as it was.
  Namespace& SetTenant(std::string_view salt);
  Namespace& SetLora(std::string_view adapter);
  Namespace& SetModel(std::string_view model);  // weights, revision, K/V type: all that changes K/V

  // An image, sound or other input behind placeholder tokens: a digest of its content and the
  // token position where it begins, which is compared and nothing else: any value is valid.
  Namespace& AddMedia(int64_t position, std::string_view content_digest);

  bool empty() const { return bytes_.empty() && media_.empty(); }

  // What SetTenant was given last, if it was called. Valid until the next non-const call.
  std::optional<std::string_view> tenant() const;

  // The canonical encoding: for each field tag (1 byte), length (8 bytes, little-endian), bytes.
  std::string Encode() const;

 private:
  enum class Tag : uint8_t { kTenant = 1, kLora = 2, kModel = 3, kMedia = 4 };
  Namespace& SetField(Tag tag, std::string_view value);

  std::string bytes_;  // encoded scalar fields, sorted by tag
  std::string media_;  // encoded media fields, sorted by (position, digest)
};

}  // namespace quire

#endif  // QUIRE_NAMESPACE_H_
