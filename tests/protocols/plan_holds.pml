/* Transfer, abort, reuse: pages that a planned copy names, while their users come and go.
 *
 * Two requests and a pool of three pages. A request either writes a page of its own, at once and on
 * no device's queue (the worst that a reuse can be), and may leave it in the index; or it hits what
 * is there in part: Reserve then plans a copy to a page of its own, TakePlan hands it over, two
 * ranks carry it out at their own pace, and the engine calls Retire. A request may be dropped at
 * any point. What the engine hears of a rank that is done comes late, out of order, twice, or from
 * a fence where the word was lost: all these are one step, possible at any time after the copy.
 * Tickets are never used twice, so that a run has two at most.
 *
 * Shown, in every interleaving: a copy reads what its source held when it was planned; no copy
 * writes a page that is another's by then; holds are the copies under way; and somebody can always
 * go on (a deadlock is an invalid end state), so that no page is lost.
 *
 * guard                the rule, and where it is
 * NO_HOLD_OF_SOURCE    a copy's source is not handed out again (PlanCopy: Hold(source))
 * NO_HOLD_OF_TARGET    nor is its target, though nobody wants it any more (PlanCopy: Hold(target))
 * NO_HOLD_TEST         a held page without references is not parked (ReleasePage: holds > 0)
 * NO_HANDED_OVER_TEST  only a copy that was not handed over is cancelled (CancelCopyTo: pending_)
 * NO_CANCEL_UNHOLDS    a cancelled copy lets its source go (CancelCopyTo: Unhold)
 * NO_PARK_AT_RETIRE    a page that only a hold kept is given back by Retire (Unhold: Park)
 * NO_HELD_PIN          a held page is not in the reclaimer, so a hit does not revive it (PinHit)
 * NO_ALL_RANKS         the engine retires a plan when its last rank is done (Retire's contract)
 * NO_FENCE             and counts no copy as done that may still run (Retire's contract)
 * NO_TICKET_TEST       a plan is retired once (Retire: the CHECK of the ticket)
 */

#define PAGES 3
#define CLIENTS 2
#define TICKETS 2
#define SHARED 1
#define OWN(id) (10 + id)

#ifdef NO_HOLD_OF_SOURCE
#define HOLD_SOURCE 0
#else
#define HOLD_SOURCE 1
#endif
#ifdef NO_HOLD_OF_TARGET
#define HOLD_TARGET 0
#else
#define HOLD_TARGET 1
#endif

byte refs[PAGES];
byte holds[PAGES];
bool taken[PAGES];  /* not in the free list */
bool cached[PAGES]; /* in the reclaimer */
bool keyed[PAGES];
byte rank0[PAGES]; /* what is in the page, on each rank */
byte rank1[PAGES];

/* The copy that a request has planned: pending_. */
bool pending[CLIENTS];
byte from[CLIENTS];
byte to[CLIENTS];

/* Plans of one copy each, by ticket: outstanding_ are those from `oldest` on. */
byte plan_from[TICKETS];
byte plan_to[TICKETS];
byte last_ticket;
byte oldest;
byte ran[2];        /* plans that a rank has carried out */
byte done[TICKETS]; /* a bit for each rank that is known to be done */

#define ONE_ROOM(page) (!taken[page] || cached[page])
#define ROOM (ONE_ROOM(0) || ONE_ROOM(1) || ONE_ROOM(2)) /* free or reclaimable */
#define UNDER_WAY (pending[0] + pending[1] + last_ticket - oldest)

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
  keyed[page] = false;
  cached[page] = false;
  taken[page] = true;
  refs[page] = 1
}

inline Park(page) {
  if
  :: keyed[page] -> cached[page] = true
  :: else -> taken[page] = false
  fi
}

inline Unhold(page) {
  assert(holds[page] > 0);
  holds[page]--;
#ifndef NO_PARK_AT_RETIRE
  if
  :: holds[page] == 0 && refs[page] == 0 -> Park(page)
  :: else
  fi
#endif
}

inline UnholdBoth(source, target) {
  if
  :: HOLD_SOURCE -> Unhold(source)
  :: else
  fi;
  if
  :: HOLD_TARGET -> Unhold(target)
  :: else
  fi
}

inline Pin(page) {
  if
#ifdef NO_HELD_PIN
  :: refs[page] == 0 ->
#else
  :: refs[page] == 0 && holds[page] == 0 ->
#endif
     assert(cached[page]);
     cached[page] = false
  :: else
  fi;
  refs[page]++
}

inline Release(page) {
  assert(refs[page] > 0);
  refs[page]--;
  if
  :: refs[page] == 0 && pending[id] && to[id] == page ->
     pending[id] = false;
     holds[page] = holds[page] - HOLD_TARGET;
#ifndef NO_CANCEL_UNHOLDS
     if
     :: HOLD_SOURCE -> Unhold(from[id])
     :: else
     fi;
#endif
     Park(page)
#ifdef NO_HANDED_OVER_TEST
  :: refs[page] == 0 && !pending[id] && holds[page] > 0 && to[id] == page ->
     holds[page]--; /* the plan's, which a device may have */
     Park(page)
#endif
#ifdef NO_HOLD_TEST
  :: refs[page] == 0 && !(pending[id] && to[id] == page) -> Park(page)
#else
  :: refs[page] == 0 && !(pending[id] && to[id] == page) && holds[page] == 0 -> Park(page)
#endif
  :: else
  fi;
  assert(holds[0] + holds[1] + holds[2] <= 2 * UNDER_WAY)
}

proctype Client(byte id) {
  byte page, target, ticket;
  do
  :: atomic {
       ROOM -> Take(page);
       rank0[page] = OWN(id);
       rank1[page] = OWN(id)
     };
     assert(rank0[page] == OWN(id) && rank1[page] == OWN(id));
     atomic {
       if
       :: rank0[page] = SHARED; rank1[page] = SHARED; keyed[page] = true
       :: true
       fi;
       Release(page);
       page = 0
     }
  :: atomic {
       if
       :: keyed[0] -> page = 0
       :: keyed[1] -> page = 1
       :: keyed[2] -> page = 2
       fi;
       Pin(page)
     };
     if
     :: atomic {
          ROOM && last_ticket + pending[0] + pending[1] < TICKETS ->
          Take(target);
          from[id] = page;
          to[id] = target;
          pending[id] = true;
          holds[page] = holds[page] + HOLD_SOURCE;
          holds[target] = holds[target] + HOLD_TARGET;
          Release(page);
          page = target;
          target = 0
        };
        if
        :: atomic {
             ticket = last_ticket;
             plan_from[ticket] = from[id];
             plan_to[ticket] = to[id];
             last_ticket++;
             pending[id] = false
           };
           if
           :: atomic {
                ran[0] > ticket && ran[1] > ticket -> /* what follows on the same stream */
                assert(rank0[page] == SHARED && rank1[page] == SHARED);
                if
                :: keyed[page] = true
                :: true
                fi
              }
           :: true
           fi
        :: true
        fi
     :: true
     fi;
     atomic { Release(page); page = 0; ticket = 0; from[id] = 0; to[id] = 0 }
  od
}

proctype Rank(byte rank) {
  byte ticket;
end:
  do
  :: atomic {
       ran[rank] < last_ticket ->
       ticket = ran[rank];
       if
       :: rank == 0 ->
          assert(rank0[plan_from[ticket]] == SHARED);
          rank0[plan_to[ticket]] = SHARED
       :: else ->
          assert(rank1[plan_from[ticket]] == SHARED);
          rank1[plan_to[ticket]] = SHARED
       fi;
       ran[rank]++;
       ticket = 0
     }
  od
}

inline Done(ticket, rank) {
  done[ticket] = done[ticket] | (1 << rank);
  if
#ifdef NO_ALL_RANKS
  :: done[ticket] != 0
#else
  :: done[ticket] == 3
#endif
     ->
     if
#ifdef NO_TICKET_TEST
     :: true ->
#else
     :: ticket == oldest -> /* otherwise the code stops: CHECK */
#endif
        UnholdBoth(plan_from[ticket], plan_to[ticket]);
        oldest = (ticket == oldest -> oldest + 1 : oldest)
#ifndef NO_TICKET_TEST
     :: else
#endif
     fi
  :: else
  fi
}

#ifdef NO_FENCE
#define MAY_BE_HEARD(ticket, rank) (ticket < last_ticket)
#else
#define MAY_BE_HEARD(ticket, rank) (ran[rank] > ticket)
#endif

proctype Engine() {
  byte ticket, rank;
end:
  do
  :: atomic {
       if
       :: MAY_BE_HEARD(0, 0) -> ticket = 0; rank = 0
       :: MAY_BE_HEARD(0, 1) -> ticket = 0; rank = 1
       :: MAY_BE_HEARD(1, 0) -> ticket = 1; rank = 0
       :: MAY_BE_HEARD(1, 1) -> ticket = 1; rank = 1
       fi;
       Done(ticket, rank);
       ticket = 0;
       rank = 0
     }
  od
}

init {
  atomic { run Client(0); run Client(1); run Rank(0); run Rank(1); run Engine() }
}
