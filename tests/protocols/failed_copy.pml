/* A copy fails: everybody who stands on its target hears of it, and nobody else finds it.
 *
 * Three requests of two pages each; a window needs only the second. The first page is hit, or
 * copied from an older page (which is good), or from the unfinished page of the request before (a fork);
 * the second is computed on top of it. Either is found by others from Commit on, long before the
 * device has said whether the copy succeeded: that is what makes it hard. A request may end at once
 * or wait for the device. Plans are carried out in the order of their tickets, the copies of one
 * plan in any order; each may fail.
 *
 * Shown, in every interleaving: when no plan is outstanding, a request that was not told kDataLoss
 * stands on good pages only, and every page in the index is good.
 *
 * guard              the rule, and where it is
 * NO_UNINDEX         a failed target leaves the index (FailTarget: UnindexSubtree)
 * NO_UNINDEX_BELOW   and so does what hangs below it (UnindexSubtree: its children)
 * NO_TELL_HOLDERS    who holds the page is told (FailTarget: holds)
 * NO_TELL_BELOW      who stands below its node is told (FailTarget: IsBelow)
 * NO_FOLLOW          copies of a failed target fail too, in later plans (FailPlan: follows)
 * NO_WINDOW_WAIT     a page does not leave a window while a copy names it (ReleasePastWindow)
 * NO_TAKE_OVER_TEST  nor the index, to be written in place (MayTakeOver: holds == 0)
 * NO_PLAN_FIRST      no commit before the plan with the own copy is taken (CommitAll: AwaitsPlan)
 * NO_REDIRECT        no copy reads the target of a copy of its own plan (PlanCopy: from_page)
 * NO_TICKET_ORDER    plans retire in the order they were taken (Retire: the CHECK of the ticket)
 */

#define CLIENTS 3
#define OLD 6 /* the older page; 0 to 2 are first pages, by request, 3 to 5 second pages */
#define PAGES 7
#define NONE 255

bool good[PAGES];
bool keyed[PAGES];

byte first[CLIENTS]; /* page, or NONE: not there, or out of the window */
bool unfinished[CLIENTS];
byte tip[CLIENTS]; /* units indexed */
bool loss[CLIENTS]; /* told kDataLoss */

/* One copy for each request, to its first page. Tickets are 1, 2, 3. */
bool pending[CLIENTS];
byte ticket[CLIENTS];
byte from[CLIENTS];
bool copied[CLIENTS];
byte last_ticket;
byte carried_out;
byte retired; /* bit t - 1 is plan t */
byte failed;  /* the same */
byte queued;  /* computations that a stream has not reached yet */

#define BIT(t) (1 << (t - 1))
#define IS_RETIRED(t) ((retired >> (t - 1)) & 1)
#define QUIET (retired == (1 << last_ticket) - 1 && queued == 0 && !pending[0] && !pending[1] && !pending[2])
/* A planned or outstanding copy goes to the first page of request c. */
#define HELD(c) (pending[c] || (ticket[c] > 0 && !IS_RETIRED(ticket[c])))
#define INDEXED_FIRST (keyed[0] || keyed[1] || keyed[2])
#define INDEXED_SECOND (keyed[3] || keyed[4] || keyed[5])

#ifdef NO_TAKE_OVER_TEST
#define MAY_TAKE_OVER(c) true
#else
#define MAY_TAKE_OVER(c) (!HELD(c))
#endif
/* Only request c has its first page. */
#define ALONE(c) ((c == 0 || first[0] != c) && (c == 1 || first[1] != c) && (c == 2 || first[2] != c))

proctype Client(byte id) {
  byte seen, below;
  bool writes; /* StartOptions::write_cache */
  /* Start or Fork, and Reserve. A request may never come. */
end:
  atomic {
    if
    :: id > 0 && INDEXED_FIRST && INDEXED_SECOND -> /* of the window only the second page is needed */
       below = (keyed[3] -> 3 : (keyed[4] -> 4 : 5));
       tip[id] = 2;
       goto deliver
    :: id > 0 && INDEXED_FIRST ->
       first[id] = (keyed[0] -> 0 : (keyed[1] -> 1 : 2));
       tip[id] = 1;
       writes = true;
       goto go_on
    :: id < 2 -> from[id] = OLD
    :: id > 0 && unfinished[id - 1] ->
       loss[id] = loss[id - 1];
       from[id] = id - 1;
#ifndef NO_REDIRECT
       if
       :: pending[id - 1] -> from[id] = from[id - 1]
       :: else
       fi;
#endif
    fi;
    if
    :: loss[id] -> goto gone
    :: else
    fi;
    first[id] = id;
    pending[id] = true;
    unfinished[id] = true;
    if
    :: writes = true
    :: id == 1
    fi
  };
  /* Commit of the first page's last tokens. */
  atomic {
#ifndef NO_PLAN_FIRST
    !pending[id] ->
#endif
    unfinished[id] = false;
    if
    :: loss[id] -> goto deliver
    :: !loss[id] && writes -> keyed[id] = true; tip[id] = 1;    :: else
    fi
  };
  /* Truncate into the page, and Reserve where there is no room for a copy: taken over in place. */
  if
  :: atomic {
       keyed[id] && ALONE(id) && MAY_TAKE_OVER(id) ->
       keyed[id] = false;
       tip[id] = 0
     };
     goto deliver
  :: true
  fi;
go_on:
  /* Commit of the second page: its tokens are computed when the stream gets there. */
  atomic {
    below = first[id];
    seen = last_ticket;
    if
    :: loss[id] -> goto deliver
    :: else
    fi;
    queued++;
    if
    :: writes ->
       keyed[3 + id] = true;
       tip[id] = 2
    :: else
    fi;
    if
#ifndef NO_WINDOW_WAIT
    :: HELD(below)
#endif
    :: else -> first[id] = NONE
    fi
  };
  atomic { carried_out >= seen -> good[3 + id] = good[below]; below = 3 + id; queued-- };
deliver:
  if
  :: atomic {
       QUIET ->
       assert(loss[id] || good[(below > 2 -> below : first[id])]);
       assert((!keyed[0] || good[0]) && (!keyed[1] || good[1]) && (!keyed[2] || good[2]));
       assert((!keyed[3] || good[3]) && (!keyed[4] || good[4]) && (!keyed[5] || good[5]))
     }
  :: id < 2
  fi;
gone:
  skip;
  d_step { first[id] = NONE; tip[id] = 0; loss[id] = false; seen = 0; below = 0; writes = false }
}

proctype TakePlan() {
  byte c;
end:
  do
  :: atomic {
       pending[0] || pending[1] || pending[2] ->
       last_ticket++;
       c = 0;
       do
       :: c < CLIENTS && pending[c] -> pending[c] = false; ticket[c] = last_ticket; c++
       :: c < CLIENTS && !pending[c] -> c++
       :: c == CLIENTS -> break
       od;
       c = 0
     }
  od
}

#define TO_COPY(c) (ticket[c] == carried_out + 1 && !copied[c])

proctype Device() {
  byte c;
end:
  do
  :: atomic {
       if
       :: TO_COPY(0) -> c = 0
       :: TO_COPY(1) -> c = 1
       :: TO_COPY(2) -> c = 2
       fi;
       copied[c] = true;
       if
       :: good[c] = good[from[c]]
       :: good[c] = false; failed = failed | BIT(ticket[c])
       fi;
       if
       :: !TO_COPY(0) && !TO_COPY(1) && !TO_COPY(2) -> carried_out++
       :: else
       fi;
       c = 0
     }
  od
}

inline FailTarget(page) {
  i = 0;
  do
  :: i < CLIENTS ->
     if
     :: false
#ifndef NO_TELL_HOLDERS
     :: first[i] == page -> loss[i] = true
#endif
#ifndef NO_TELL_BELOW
     :: keyed[page] && tip[i] > 0 -> loss[i] = true
#endif
     :: else
     fi;
     i++
  :: else -> break
  od;
  if
#ifndef NO_UNINDEX
  :: keyed[page] ->
     keyed[0] = false;
     keyed[1] = false;
     keyed[2] = false;
#ifndef NO_UNINDEX_BELOW
     keyed[3] = false;
     keyed[4] = false;
     keyed[5] = false
#endif
#endif
  :: else
  fi
}

inline FailCopies(t) {
  more = true;
  do
  :: more ->
     more = false;
     c = 0;
     do
     :: c < CLIENTS ->
        if
        :: !tainted[c] && ticket[c] == t -> tainted[c] = true; more = true; FailTarget(c)
#ifndef NO_FOLLOW
        :: !tainted[c] && ticket[c] != t && from[c] < CLIENTS && tainted[from[c]] && HELD(c) ->
           tainted[c] = true; more = true; FailTarget(c)
#endif
        :: else
        fi;
        c++
     :: else -> break
     od
  :: else -> break
  od;
  c = 0;
  i = 0;
  tainted[0] = false;
  tainted[1] = false;
  tainted[2] = false
}

#ifdef NO_TICKET_ORDER
#define MAY_RETIRE(t) (carried_out >= t && !IS_RETIRED(t))
#else
#define MAY_RETIRE(t) (carried_out >= t && retired == BIT(t) - 1)
#endif

proctype Retire() {
  byte t, c, i;
  bool more;
  bool tainted[CLIENTS];
end:
  do
  :: atomic {
       if
       :: MAY_RETIRE(1) -> t = 1
       :: MAY_RETIRE(2) -> t = 2
       :: MAY_RETIRE(3) -> t = 3
       fi;
       if
       :: failed & BIT(t) -> FailCopies(t)
       :: else
       fi;
       retired = retired | BIT(t);
       t = 0
     }
  od
}

init {
  atomic {
    good[OLD] = true;
    from[0] = NONE;
    from[1] = NONE;
    from[2] = NONE;
    first[0] = NONE;
    first[1] = NONE;
    first[2] = NONE;
    run Client(0);
    run Client(1);
    run Client(2);
    run TakePlan();
    run Device();
    run Retire()
  }
}
