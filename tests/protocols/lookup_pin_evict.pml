/* Lookup, pin, evict: admissions that share pages by prefix while others evict them.
 *
 * Three engines' requests, each of two pages: one that holds a prefix, which may be found, and one
 * of its own. They go through Start, Reserve, Commit, perhaps Truncate, and Drop; each call of the
 * cache is one atomic step, and requests interleave between calls. A pool of three pages makes
 * every admission evict. Both prefixes have one hash. The victim is any cached page, so the model
 * stands for every Options::reclaim.
 *
 * Shown, in every interleaving: what a request reads is what was written for its prefix; counts
 * never go below zero; a page is never handed out while somebody holds it; and somebody can always
 * go on (a deadlock is an invalid end state). Not shown: that everybody does, which is the engine's
 * choice of whom to admit.
 *
 * guard                 the rule, and where it is
 * NO_PIN_IN_LOOKUP      find and pin are one call (Start: MatchPrefix, then PinMatch)
 * NO_CONFIRM            a hit compares tokens, the hash only finds (PrefixIndex::IsChild)
 * NO_REVIVE             a cached page that is hit leaves the reclaimer (PinHit: Revive)
 * NO_REF_ON_LIVE_HIT    a live page that is hit gets one more reference (PinHit: Ref)
 * NO_DETACH_ON_EVICT    an evicted page loses its key (Evict: Detach)
 * NO_FIT_FIRST          the whole need fits or nothing is taken (ReserveAll: Fits, then TakePages)
 * NO_COMMIT_TO_INDEX    a page is found from Commit on, not from Reserve on (CommitOne: IndexTokens)
 * NO_WRITABLE           one reference and no key, or it is not written (TailMustBeCopied: Writable)
 * NO_TAKE_OVER_DETACH   a page that is taken over in place loses its key (TakePages: Detach)
 * NO_TAIL_TO_FREE_LIST  a page without key and references is free again (Park: FreePage)
 */

#define PAGES 3
#define CLIENTS 3
#define NONE 255
#define OWN(pid) (10 + pid)

byte refs[PAGES];
bool taken[PAGES];   /* not in the free list */
bool cached[PAGES];  /* in the reclaimer */
byte key[PAGES];     /* the prefix under which the index has it; 0: not indexed */
byte content[PAGES]; /* what is really in it */

inline Find(prefix, page) {
  page = NONE;
  i = 0;
  do
  :: i < PAGES ->
     if
#ifdef NO_CONFIRM
     :: page == NONE && key[i] != 0 -> page = i
#else
     :: page == NONE && key[i] == prefix -> page = i
#endif
     :: else
     fi;
     i++
  :: else -> break
  od
}

inline Pin(page) {
  if
  :: page != NONE ->
     if
     :: refs[page] == 0 ->
#ifndef NO_REVIVE
        cached[page] = false;
#endif
        refs[page]++
     :: else ->
#ifndef NO_REF_ON_LIVE_HIT
        refs[page]++
#else
        skip
#endif
     fi
  :: else
  fi
}

#define ONE_ROOM(page) (!taken[page] || cached[page])
#define ROOM (ONE_ROOM(0) + ONE_ROOM(1) + ONE_ROOM(2)) /* free or reclaimable */

/* A free page, or any cached one. */
inline Take(page) {
  if
  :: !taken[0] -> page = 0
  :: taken[0] && !taken[1] -> page = 1
  :: taken[0] && taken[1] && !taken[2] -> page = 2
  :: taken[0] && taken[1] && taken[2] && cached[0] -> page = 0
  :: taken[0] && taken[1] && taken[2] && cached[1] -> page = 1
  :: taken[0] && taken[1] && taken[2] && cached[2] -> page = 2
  fi;
  assert(refs[page] == 0);
#ifndef NO_DETACH_ON_EVICT
  key[page] = 0;
#endif
  cached[page] = false;
  taken[page] = true;
  refs[page] = 1
}

inline Release(page) {
  assert(taken[page] && refs[page] > 0);
  refs[page]--;
  if
  :: refs[page] == 0 && key[page] != 0 -> cached[page] = true
#ifndef NO_TAIL_TO_FREE_LIST
  :: refs[page] == 0 && key[page] == 0 -> taken[page] = false
#endif
  :: else
  fi
}

active [CLIENTS] proctype Client() {
  byte prefix, first, tail, need, i;
  bool hit;
  do
  :: if
     :: prefix = 1
     :: prefix = 2
     fi;
     atomic {
       Find(prefix, first);
#ifdef NO_PIN_IN_LOOKUP
     }
     atomic {
#endif
       Pin(first);
       hit = (first != NONE);
       need = (hit -> 1 : 2)
     }
#ifndef NO_FIT_FIRST
     do
     :: atomic {
          ROOM >= need -> /* blocks: the engine asks again once somebody has given back */
          if
          :: need == 2 -> Take(first)
          :: else
          fi;
          Take(tail)
        };
        break
     od;
#else
     if
     :: need == 2 -> atomic { ROOM > 0 -> Take(first) }
     :: else
     fi;
     atomic { ROOM > 0 -> Take(tail) }
#endif
#ifdef NO_COMMIT_TO_INDEX
     key[first] = prefix;
#endif
     if
     :: !hit -> content[first] = prefix
     :: else
     fi;
     content[tail] = OWN(_pid);
     /* Commit. A page that was hit has its key; of a duplicate the index keeps both. */
     if
     :: !hit -> key[first] = prefix
     :: else
     fi;
     assert(content[first] == prefix);
     assert(content[tail] == OWN(_pid));
     /* Truncate into the first page, then write on there. A copy is in plan_holds.pml. */
     if
     :: true
     :: atomic {
#ifndef NO_WRITABLE
          refs[first] == 1 ->
#endif
#ifndef NO_TAKE_OVER_DETACH
          key[first] = 0;
#endif
          prefix = OWN(_pid)
        };
        content[first] = prefix
     :: true
     fi;
     assert(content[first] == prefix);
     atomic {
       Release(tail);
       Release(first);
       prefix = 0; first = 0; tail = 0; need = 0; i = 0; hit = false
     }
  od
}
